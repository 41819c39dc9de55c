#include "resource_manager/postgres_gid.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace assent {

std::string GidOf(const Xid& xid) { return absl::StrCat(kFormatId, "/", xid.gtrid, "/", xid.bqual); }

RecoveredXid ParseGid(absl::string_view gid) {
  const std::vector<absl::string_view> parts = absl::StrSplit(gid, '/');
  RecoveredXid xid;
  // One spelling only: "+7/a/b" and "07/a/b" are other gids than "7/a/b".
  if (parts.size() == 3 && absl::SimpleAtoi(parts[0], &xid.format_id) && xid.format_id >= 0 &&
      absl::StrCat(xid.format_id) == parts[0] && IsValidId(parts[1]) && IsValidId(parts[2])) {
    xid.gtrid = std::string(parts[1]);
    xid.bqual = std::string(parts[2]);
    return xid;
  }
  return RecoveredXid{kNoFormatId, std::string(gid), ""};
}

uint32_t BranchLockOf(const Xid& xid) {
  uint32_t hash = 2166136261u;  // FNV-1a.
  for (const char c : absl::StrCat(xid.gtrid, "/", xid.bqual)) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  }
  return hash;
}

}  // namespace assent
