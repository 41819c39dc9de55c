// Moving house: a store into a file, a file into a new store (of another kind, too), and whether the two are the same.
//
// All of these open the store themselves, and nobody may work on it meanwhile: an SQLite store is locked as by assentd,
// and a MariaDB store is refused while an instance lives (STORE_LOCKED names it).
//
// The new store keeps the id of the old one, because the claims on the database servers name it. Until the import has
// finished the new store is half imported (Store::IsHalfImported) and opens for nobody else: it would deny what was
// decided. Whatever kills an import or an export, the same call continues it.
//
// Memory is bounded: a page of records, and what is on its way into the store.
#ifndef ASSENT_STORE_TRANSFER_H_
#define ASSENT_STORE_TRANSFER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/open_store.h"

namespace assent {

struct TransferCounts {
  int64_t resources = 0;
  int64_t globals = 0;
  // Of these, what was there already: in the file that an export continues, in the store that an import continues.
  int64_t found = 0;
  // How many transactions there will be; an estimate, 0 if it is not known.
  int64_t expected = 0;
};

// Called now and then with what is done so far, on the thread of the caller.
using TransferProgress = std::function<void(const TransferCounts&)>;

struct ExportOptions {
  // "-": standard output. Else it is written to `<path>.part`, forced to disk, and renamed when it is whole.
  std::string path;
  bool resume = false;  // Continue a `<path>.part`.
  bool force = false;   // Replace `path`, and a `<path>.part`.
  TransferProgress progress;
};

// STORE_NOT_SETTLED if the store may have lost something: assentd has to be started on it first. STORE_DIFFERS if it
// has changed since the part of the file was written that is to be continued. Errors of OpenStore. ALREADY_EXISTS,
// NOT_FOUND and FAILED_PRECONDITION, without a reason, for files. After any error `<path>.part` can be continued.
absl::StatusOr<TransferCounts> ExportStore(StoreSettings settings, const ExportOptions& options);

// Into the store of the settings, which is made if there is none; an empty cluster stands for the file's. STORE_DIFFERS
// (with the line) if something else is there. STORE_FILE_INVALID: a file (not a pipe) is looked at from end to end
// before anything is written. Into a complete store nothing is written: it is the same, or an error.
absl::StatusOr<TransferCounts> ImportStore(StoreSettings settings, const std::string& path,
                                           const TransferProgress& progress);

struct VerifyReport {
  TransferCounts counts;                 // Of the file.
  std::vector<std::string> differences;  // The first of them, in words; empty: store and file hold the same.
  int64_t more_differences = 0;          // At least so many more.
  int64_t displaced = 0;                 // Transactions that stand elsewhere in the order of creation: no difference.
};

// Looks at every record of both.
absl::StatusOr<VerifyReport> VerifyStore(StoreSettings settings, const std::string& path,
                                         const TransferProgress& progress);

}  // namespace assent

#endif  // ASSENT_STORE_TRANSFER_H_
