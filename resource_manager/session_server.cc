#include "resource_manager/session_server.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/errors.h"

namespace assent {

absl::Status CheckServer(const v1::Session& session, absl::string_view resource, absl::string_view server,
                         int64_t timeline) {
  const bool is_other = !server.empty() && !session.server().empty() && session.server() != server;
  const bool is_old = session.timeline() != 0 && session.timeline() < timeline;
  if (!is_other && !is_old) return absl::OkStatus();
  const std::string why =
      is_other ? absl::StrCat("the session is on the server ", session.server(), ", but resource '", resource, "' is ",
                              server, ": the participant must connect to the resource's own server")
               : absl::StrCat("the session is on timeline ", session.timeline(), " of its server, but resource '",
                              resource, "' has been on timeline ", timeline,
                              " since a failover: the participant is on a server that was replaced, and must connect "
                              "to the new one");
  return MakeError(
      Reason::WRONG_SERVER, why,
      {{"resource", std::string(resource)}, {"server", std::string(server)}, {"session_server", session.server()}});
}

}  // namespace assent
