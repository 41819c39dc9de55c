#include "store/record.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "store/proof.h"

namespace assent {
namespace {

absl::Status OutOfBounds(absl::string_view field, absl::string_view bounds) {
  return MakeError(Reason::INVALID_FIELD, absl::StrCat(field, " must be ", bounds), {{"field", std::string(field)}});
}

}  // namespace

absl::StatusOr<GlobalPtr> ParseGlobal(const StoredRecord& stored) {
  auto global = std::make_shared<v1::Global>();
  if (!global->ParseFromString(stored.record) || global->gtrid() != stored.gtrid ||
      global->revision() != stored.revision || global->state() == v1::Global::STATE_UNSPECIFIED) {
    return MakeError(Reason::STORE_CORRUPT,
                     absl::StrCat("the stored record of '", stored.gtrid,
                                  "' cannot be read, or is not that of its row: restore the store from a copy"),
                     {{"gtrid", stored.gtrid}});
  }
  return GlobalPtr(std::move(global));
}

absl::StatusOr<std::vector<GlobalPtr>> ParseGlobals(const std::vector<StoredRecord>& stored) {
  std::vector<GlobalPtr> globals;
  globals.reserve(stored.size());
  for (const StoredRecord& one : stored) {
    absl::StatusOr<GlobalPtr> global = ParseGlobal(one);
    if (!global.ok()) return global.status();
    globals.push_back(*std::move(global));
  }
  return globals;
}

absl::StatusOr<v1::Resource> ParseResource(const std::string& record) {
  v1::Resource resource;
  if (!resource.ParseFromString(record)) {
    return MakeError(Reason::STORE_CORRUPT, "a stored resource cannot be parsed: restore the store from a copy");
  }
  return resource;
}

int64_t EndedMicros(const v1::Global& global) {
  if (!IsFinished(global.state())) return 0;
  if (std::any_of(global.branches().begin(), global.branches().end(), RestsOnWord)) return kNeverEnded;
  const absl::Time birth = BirthOf(global.gtrid()).value_or(absl::InfinitePast());
  return std::max<int64_t>(1, absl::ToUnixMicros(std::max(GetTime(global.end_time()), birth)));
}

absl::Status CheckPageSize(int page_size) {
  if (page_size >= 1 && page_size <= kMaxPageSize) return absl::OkStatus();
  return MakeError(Reason::INVALID_PAGE_SIZE, absl::StrCat("the page size must be 1 to ", kMaxPageSize));
}

absl::Status CheckKnown(absl::Span<const KnownRevision> known) {
  if (known.size() <= kMaxKnownRevisions) return absl::OkStatus();
  return OutOfBounds("known", absl::StrCat("at most ", kMaxKnownRevisions, " records"));
}

absl::Status CheckPurgeLimit(int limit) {
  if (limit >= 1 && limit <= kMaxPurge) return absl::OkStatus();
  return OutOfBounds("limit", absl::StrCat("1 to ", kMaxPurge));
}

absl::Status CheckWork(absl::Span<const std::string> work) {
  if (work.size() > kMaxClaim) return OutOfBounds("work", absl::StrCat("at most ", kMaxClaim, " pieces"));
  for (const std::string& name : work) {
    if (name.empty() || name.size() > kMaxWorkBytes) {
      return OutOfBounds("work", absl::StrCat("1 to ", kMaxWorkBytes, " bytes each"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckInstanceInfo(const InstanceInfo& info) {
  if (info.address.empty() || info.address.size() > 255) return OutOfBounds("address", "1 to 255 bytes");
  if (info.version.size() > 64) return OutOfBounds("version", "at most 64 bytes");
  if (info.lease < absl::Milliseconds(100) || info.lease > absl::Hours(1)) return OutOfBounds("lease", "100 ms to 1 h");
  return absl::OkStatus();
}

}  // namespace assent
