#include "tests/bank/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"

namespace assent {
namespace {

constexpr Told kAllTold[] = {Told::kCommitted, Told::kRolledBack, Told::kInDoubt};

absl::optional<JournalEntry> Parse(absl::string_view line) {
  const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(' ', 3));
  JournalEntry entry;
  if (parts.size() != 4 || !absl::SimpleAtoi(parts[0], &entry.transfer)) return absl::nullopt;
  const auto* told = std::find_if(std::begin(kAllTold), std::end(kAllTold),
                                  [&parts](Told candidate) { return ToString(candidate) == parts[1]; });
  if (told == std::end(kAllTold)) return absl::nullopt;
  entry.told = *told;
  if (parts[2] != "-") entry.gtrid = parts[2];
  entry.why = parts[3];
  return entry;
}

}  // namespace

absl::string_view ToString(Told told) {
  switch (told) {
    case Told::kCommitted: return "COMMITTED";
    case Told::kRolledBack: return "ROLLED_BACK";
    case Told::kInDoubt: return "IN_DOUBT";
  }
  return "?";
}

absl::StatusOr<std::unique_ptr<JournalWriter>> JournalWriter::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return absl::InternalError(absl::StrCat("cannot open the journal ", path, ": ", strerror(errno)));
  return std::unique_ptr<JournalWriter>(new JournalWriter(fd));
}

JournalWriter::~JournalWriter() { close(fd_); }

absl::Status JournalWriter::Append(const JournalEntry& entry) {
  const std::string why = absl::StrReplaceAll(entry.why, {{"\n", " "}, {"\r", " "}});
  const std::string line = absl::StrCat(entry.transfer, " ", ToString(entry.told), " ",
                                        entry.gtrid.empty() ? "-" : entry.gtrid, " ", why, "\n");
  if (write(fd_, line.data(), line.size()) == static_cast<ssize_t>(line.size())) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot write the journal: ", strerror(errno)));
}

absl::StatusOr<std::vector<JournalEntry>> JournalReader::ReadNew() {
  std::vector<JournalEntry> entries;
  std::ifstream file(path_, std::ios::binary);
  if (!file) return entries;
  file.seekg(offset_);
  std::ostringstream rest;
  rest << file.rdbuf();
  const std::string text = rest.str();
  for (size_t begin = 0;;) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) return entries;  // What follows is not a whole line yet.
    const absl::string_view line = absl::string_view(text).substr(begin, end - begin);
    absl::optional<JournalEntry> entry = Parse(line);
    if (!entry) return absl::DataLossError(absl::StrCat(path_, ": not a line of a journal: '", line, "'"));
    entries.push_back(*std::move(entry));
    offset_ += static_cast<int64_t>(end + 1 - begin);
    begin = end + 1;
  }
}

}  // namespace assent
