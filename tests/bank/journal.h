// The bank's journal: what the caller of each transfer was told. It is what the checker holds against the databases.
//
// One text line per transfer, appended with one write: `<transfer> <COMMITTED|ROLLED_BACK|IN_DOUBT> <gtrid or ->
// <why>`. Nothing is forced to disk: a journal outlives the death of its writer, not that of the machine. A transfer
// without a line is one whose caller was told nothing.
#ifndef ASSENT_TESTS_BANK_JOURNAL_H_
#define ASSENT_TESTS_BANK_JOURNAL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace assent {

enum class Told { kCommitted, kRolledBack, kInDoubt };
absl::string_view ToString(Told told);

struct JournalEntry {
  int64_t transfer = 0;
  Told told = Told::kInDoubt;
  std::string gtrid;  // Empty: the transfer did not get as far as having one.
  std::string why;    // One line; empty if committed.
};

// Thread-compatible. Several writers must not share a file.
class JournalWriter {
 public:
  // Appends to `path`, which is made if missing. INTERNAL.
  static absl::StatusOr<std::unique_ptr<JournalWriter>> Open(const std::string& path);
  ~JournalWriter();
  JournalWriter(const JournalWriter&) = delete;
  JournalWriter& operator=(const JournalWriter&) = delete;

  // INTERNAL if the line could not be written whole.
  absl::Status Append(const JournalEntry& entry);

 private:
  explicit JournalWriter(int fd) : fd_(fd) {}
  const int fd_;
};

// Reads a journal while it is being written. Thread-compatible.
class JournalReader {
 public:
  explicit JournalReader(std::string path) : path_(std::move(path)) {}

  // The whole lines that have been added since the last call; none if there is no file yet. DATA_LOSS if a line cannot
  // be understood.
  absl::StatusOr<std::vector<JournalEntry>> ReadNew();

 private:
  const std::string path_;
  int64_t offset_ = 0;
};

}  // namespace assent

#endif  // ASSENT_TESTS_BANK_JOURNAL_H_
