// What the two halves of ResourceWorker's sweep (resource_sweep.cc, resource_strays.cc) share.
#ifndef ASSENT_COORDINATOR_RESOURCE_STRAYS_H_
#define ASSENT_COORDINATOR_RESOURCE_STRAYS_H_

#include <cstdint>
#include <string>

#include "absl/types/optional.h"
#include "assent/v1/coordinator_service.pb.h"
#include "coordinator/resource_worker.h"

namespace assent {

// The branch of a record (null: none); nullopt: it has none of this name.
absl::optional<int> IndexOf(const GlobalPtr& record, const std::string& bqual);

// A line of the report; null if there is none, or no room in it.
v1::XidReport* AddReport(const std::string& gtrid, const std::string& bqual, int64_t format_id,
                         v1::XidReport::Kind kind, v1::ResourceReport* report);

// True for what stands for an xid of this cluster without a record: as one that was decided ROLLBACK (presumed abort).
inline bool IsOrphan(const OpenBranch& open) { return open.global->revision() == 0; }

}  // namespace assent

#endif  // ASSENT_COORDINATOR_RESOURCE_STRAYS_H_
