// What every store knows of a record: how to read it back, when it ended, what a read of many may cost.
#ifndef ASSENT_STORE_RECORD_H_
#define ASSENT_STORE_RECORD_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/store.h"

namespace assent {

// What one call may ask for.
constexpr int kMaxPageSize = 1000;
constexpr int kMaxKnownRevisions = 1000;
constexpr int kMaxPurge = 1000;
constexpr int kMaxClaim = 1000;
constexpr size_t kMaxWorkBytes = 128;
// What one List may cost: rows that a filter skips, and bytes of records (a page always holds at least one).
constexpr int kMaxScannedRows = 10000;
constexpr size_t kMaxPageBytes = size_t{2} << 20;

// A row: the record, and the columns by which it was found, which must agree with it.
struct StoredRecord {
  std::string gtrid;
  int64_t revision = 0;
  std::string record;
};

// Parses a stored record; STORE_CORRUPT if it is none, or another one than its row is for.
absl::StatusOr<GlobalPtr> ParseGlobal(const StoredRecord& stored);
absl::StatusOr<std::vector<GlobalPtr>> ParseGlobals(const std::vector<StoredRecord>& stored);

// The same for a resource.
absl::StatusOr<v1::Resource> ParseResource(const std::string& record);

// What is kept beside the record of when it ended, for Purge: microseconds since 1970, at least 1; 0 if it is
// unfinished. No earlier than its gtrid was born, whatever clocks say. kNeverEnded if a branch is finished by an
// operator's word alone: its database may come back with the branch still prepared, and what is said of it then must be
// what was said before.
constexpr int64_t kNeverEnded = std::numeric_limits<int64_t>::max();
int64_t EndedMicros(const v1::Global& global);

// INVALID_FIELD, or INVALID_PAGE_SIZE, if a call asks for something out of bounds.
absl::Status CheckPageSize(int page_size);
absl::Status CheckKnown(absl::Span<const KnownRevision> known);
absl::Status CheckPurgeLimit(int limit);
absl::Status CheckWork(absl::Span<const std::string> work);
absl::Status CheckInstanceInfo(const InstanceInfo& info);

}  // namespace assent

#endif  // ASSENT_STORE_RECORD_H_
