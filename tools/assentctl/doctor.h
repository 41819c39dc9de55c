// assentctl doctor: is everything fit that branches run on?
#ifndef ASSENT_TOOLS_ASSENTCTL_DOCTOR_H_
#define ASSENT_TOOLS_ASSENTCTL_DOCTOR_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "assent/v1/coordinator_service.pb.h"
#include "assent/v1/resource_service.pb.h"
#include "tools/assentctl/session.h"

namespace assent {

// What is known of one resource.
struct Diagnosis {
  std::string resource;
  // What CheckResource found; first, if it is not well, how the recovery sees it (check `recovery`).
  v1::CheckResourceResponse check;
  // How the recovery sees it; nullopt if the coordinator does not say.
  absl::optional<v1::ResourceStatus> status;
};

// Checks these resources; none: all. Says each as soon as it is known. kExitError if one of them cannot be used safely.
int Doctor(Session* session, const std::vector<std::string>& names);

// The finding about how the recovery sees a resource; nullopt if it is well, or was not asked yet.
absl::optional<v1::Finding> FindingOf(const v1::ResourceStatus& status, absl::Time now);
std::string RenderDiagnosis(const Diagnosis& diagnosis);
// "2 resources: 1 error, 3 warnings".
std::string RenderSummary(const std::vector<Diagnosis>& diagnoses);
// One document: {"resources": [{"resource": NAME, "check": {"findings": […]}, "status": {…}}, …]}.
std::string DiagnosesToJson(const std::vector<Diagnosis>& diagnoses);

}  // namespace assent

#endif  // ASSENT_TOOLS_ASSENTCTL_DOCTOR_H_
