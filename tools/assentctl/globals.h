// assentctl globals: list, get, history, watch.
#ifndef ASSENT_TOOLS_ASSENTCTL_GLOBALS_H_
#define ASSENT_TOOLS_ASSENTCTL_GLOBALS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "assent/v1/coordinator_service.pb.h"
#include "tools/assentctl/session.h"

namespace assent {

// What --state takes: the states in small letters with '-', and "open" for all that are unfinished.
std::vector<std::string> StateWords();
// Words as above into states; a word that is unknown stands for none.
std::vector<v1::Global::State> StatesOf(const std::vector<std::string>& words);

// All answer the exit code.
int ListGlobals(Session* session, const std::vector<v1::Global::State>& states, int limit);
int GetGlobal(Session* session, const std::string& gtrid);
int ShowHistory(Session* session, const std::string& gtrid);
// Says each change of one transaction until nothing more will happen without an operator. Goes on while the coordinator
// restarts.
int WatchGlobal(Session* session, const std::string& gtrid, absl::Duration interval);
// The unfinished transactions again and again, `rounds` times (0: until interrupted).
int WatchGlobals(Session* session, absl::Duration interval, int rounds);

absl::Status FetchGlobal(Session* session, const std::string& gtrid, v1::GetGlobalResponse* response);

std::string RenderGlobal(const v1::GetGlobalResponse& response, absl::Time now);
std::string RenderGlobals(const v1::ListGlobalsResponse& response, absl::Time now);
// The latest `limit` entries (0: all), oldest first, and how many more there are.
std::string RenderHistory(const v1::Global& global, int limit, absl::Time now);

}  // namespace assent

#endif  // ASSENT_TOOLS_ASSENTCTL_GLOBALS_H_
