#include "tools/assentctl/instances.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "tools/assentctl/text.h"
#include "tools/assentctl/words.h"

namespace assent {

std::string RenderInstances(const v1::ListInstancesResponse& response, absl::Time now) {
  Table table({"ID", "ADDRESS", "ALIVE", "EPOCH", "VERSION", "LOAD", "LAST SEEN", "RECOVERS"});
  for (const bool alive : {true, false}) {
    for (const v1::Instance& instance : response.instances()) {
      if (instance.alive() != alive) continue;
      table.Add({absl::StrCat(instance.id()), instance.address(), alive ? "yes" : "no", absl::StrCat(instance.epoch()),
                 instance.version(), absl::StrCat(instance.load()), At(instance.last_seen_time(), now),
                 absl::StrJoin(instance.resources(), ", ")});
    }
  }
  return table.Render();
}

int ListInstances(Session* session) {
  v1::ListInstancesResponse response;
  const absl::Status status =
      session->Call(session->coordinator(), &v1::CoordinatorService::StubInterface::ListInstances,
                    v1::ListInstancesRequest(), &response);
  return Show(session, status, response,
              [](const v1::ListInstancesResponse& listed) { return RenderInstances(listed, absl::Now()); });
}

}  // namespace assent
