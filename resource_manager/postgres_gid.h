// The gid of a branch: PostgreSQL's one name for a prepared transaction, made of the three parts of an xid and parsed
// back.
#ifndef ASSENT_RESOURCE_MANAGER_POSTGRES_GID_H_
#define ASSENT_RESOURCE_MANAGER_POSTGRES_GID_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "base/xid.h"
#include "resource_manager/branch_session.h"

namespace assent {

// `<format id>/<gtrid>/<bqual>` of a valid xid: at most 140 of the 199 bytes that PostgreSQL allows. No id has a slash,
// so nothing else has this gid; none of its bytes needs quoting.
std::string GidOf(const Xid& xid);
// The parts of a gid of any format id; otherwise kNoFormatId and the whole gid.
RecoveredXid ParseGid(absl::string_view gid);

// A running branch holds a shared advisory lock (classid kFormatId, objid this, objsubid 2) until it is prepared and
// longer, so that anybody can see which session runs it. Two branches that get the same number only look like each
// other.
uint32_t BranchLockOf(const Xid& xid);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_POSTGRES_GID_H_
