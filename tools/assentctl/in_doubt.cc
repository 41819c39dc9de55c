#include "tools/assentctl/in_doubt.h"

#include <algorithm>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/timestamp.h"
#include "tools/assentctl/text.h"
#include "tools/assentctl/words.h"

namespace assent {
namespace {

using v1::InDoubtBranch;
using v1::ResourceStatus;

constexpr int kMaxPage = 1000;

bool IsWell(const ResourceStatus& status) { return status.state() == ResourceStatus::STATE_OK; }

bool IsQuarantined(const ResourceStatus& status) { return status.state() == ResourceStatus::STATE_QUARANTINED; }

std::string Count(size_t count, absl::string_view one, absl::string_view many) {
  return absl::StrCat(count, " ", count == 1 ? one : many);
}

// "2026-01-07T10:00:01.250Z (3m12s)"
std::string Since(const google::protobuf::Timestamp& time, absl::Time now) {
  const std::string text = FormatTime(time);
  return text.empty() ? "" : absl::StrCat(text, " (", Span(now - GetTime(time)), ")");
}

std::string NextTry(const google::protobuf::Timestamp& time, absl::Time now) {
  if (FormatTime(time).empty()) return "never by itself";
  return GetTime(time) < now + absl::Seconds(1) ? "now" : absl::StrCat("in ", Span(GetTime(time) - now));
}

std::string Headline(const v1::ListInDoubtResponse& response) {
  std::set<std::string> globals;
  size_t alarms = 0;
  for (const InDoubtBranch& branch : response.branches()) {
    globals.insert(branch.gtrid());
    if (branch.alarm()) ++alarms;
  }
  const size_t quarantined =
      static_cast<size_t>(std::count_if(response.resources().begin(), response.resources().end(), IsQuarantined));
  if (globals.empty() && quarantined == 0) return "Nothing is in doubt.\n";
  if (globals.empty()) {
    return absl::StrCat("Nothing is in doubt, but ", Count(quarantined, "resource is", "resources are"),
                        " quarantined.\n");
  }
  const size_t branches = static_cast<size_t>(response.branches_size());
  return absl::StrCat(Count(branches, "branch", "branches"), " of ",
                      Count(globals.size(), "transaction", "transactions"), branches == 1 ? " is" : " are",
                      " in doubt; ", alarms == 0 ? "no alarm" : Count(alarms, "alarm", "alarms"), ".\n");
}

std::string RenderBranches(const v1::ListInDoubtResponse& response, int limit, absl::Time now) {
  std::vector<const InDoubtBranch*> branches;
  for (const InDoubtBranch& branch : response.branches()) branches.push_back(&branch);
  // The coordinator has put the oldest first.
  std::stable_partition(branches.begin(), branches.end(), [](const InDoubtBranch* branch) { return branch->alarm(); });
  if (limit > 0 && branches.size() > static_cast<size_t>(limit)) branches.resize(static_cast<size_t>(limit));
  Table table({"ALARM", "SINCE", "GTRID", "BRANCH", "RESOURCE", "DECISION", "STATE", "FOUND", "NEXT TRY", "WHAT NEXT"});
  for (const InDoubtBranch* in_doubt : branches) {
    const v1::Branch& branch = in_doubt->branch();
    const v1::Evidence* evidence = LatestEvidence(branch);
    std::vector<std::string> lines = {in_doubt->next_step()};
    if (evidence != nullptr) {
      const std::string text = EvidenceText(*evidence);
      for (const std::string& line : {evidence->detail(), text}) {
        if (!line.empty() && line != in_doubt->next_step()) lines.push_back(line);
      }
    }
    const std::string holder = SessionText(branch.session());
    if (!holder.empty()) lines.push_back(absl::StrCat("ran in session ", holder));
    table.Add({in_doubt->alarm() ? "ALARM" : "", Since(in_doubt->since(), now), in_doubt->gtrid(), branch.bqual(),
               branch.resource(), DecisionWord(in_doubt->decision()), StateWord(branch.state()),
               evidence == nullptr ? "not looked yet" : OutcomeWord(evidence->outcome()),
               absl::StrCat(NextTry(in_doubt->next_attempt_time(), now), ", ", in_doubt->attempts(), " so far"),
               lines[0]});
    for (size_t i = 1; i < lines.size(); ++i) table.Add({"", "", "", "", "", "", "", "", "", lines[i]});
  }
  return table.empty() ? "" : table.Render();
}

// Those that are not well, one by one; the others in a line.
std::string RenderResources(const v1::ListInDoubtResponse& response, absl::Time now) {
  if (response.resources().empty()) return "No resources are registered.\n";
  Table table({"RESOURCE", "STATE", "SINCE", "IN DOUBT", "LAST SWEEP", "NEXT TRY", "DETAIL"});
  size_t well = 0;
  for (const ResourceStatus& status : response.resources()) {
    if (IsWell(status)) {
      ++well;
      continue;
    }
    const std::string last = FormatTime(status.last_sweep_time());
    table.Add({status.resource(), StateWord(status.state()), Since(status.since(), now),
               absl::StrCat(status.in_doubt()),
               last.empty() ? "none" : Relative(GetTime(status.last_sweep_time()), now),
               NextTry(status.next_attempt_time(), now), status.detail()});
  }
  if (table.empty())
    return well == 1 ? "The one resource is well.\n" : absl::StrCat("All ", well, " resources are well.\n");
  return absl::StrCat(table.Render(), well == 0 ? "" : Count(well, "other is well.\n", "others are well.\n"));
}

// What no line of a branch may show: anybody's transactions that keep their locks.
std::string RenderGhosts(const v1::ListInDoubtResponse& response) {
  std::string text;
  for (const ResourceStatus& status : response.resources()) {
    if (status.ghosts() <= 0) continue;
    absl::StrAppend(&text, Escape(status.resource()), " has lost sight of ",
                    Count(static_cast<size_t>(status.ghosts()), "prepared transaction", "prepared transactions"),
                    " (ghosts), which keep their locks. Those of branches above are repaired if they can be; a restart "
                    "of the server brings back all of them as prepared.\n");
  }
  return text;
}

// "Nobody" is said only of resources that could be asked.
std::string RenderLocks(const v1::ListInDoubtResponse& response) {
  std::string unknown;
  for (const v1::LocksUnknown& resource : response.locks_unknown()) {
    absl::StrAppend(&unknown, "Who waits for locks on ", Escape(resource.resource()),
                    " is not known: ", Escape(resource.detail()), "\n");
  }
  if (unknown.empty() || !response.lock_waits().empty()) return RenderLockWaits(response.lock_waits()) + unknown;
  const bool all = response.locks_unknown_size() >= response.resources_size();
  return absl::StrCat(all ? "" : "On the other resources no session waits for a lock of a branch.\n", unknown);
}

}  // namespace

absl::Status FetchInDoubt(Session* session, const std::string& resource, bool with_locks,
                          v1::ListInDoubtResponse* all) {
  v1::ListInDoubtRequest request;
  request.set_resource(resource);
  request.set_page_size(kMaxPage);
  request.set_with_locks(with_locks);
  do {
    v1::ListInDoubtResponse page;
    absl::Status status = session->Call(session->coordinator(), &v1::CoordinatorService::StubInterface::ListInDoubt,
                                        request, &page, with_locks ? Pace::kSlow : Pace::kQuick);
    if (!status.ok()) return status;
    request.set_page_token(page.next_page_token());
    page.clear_next_page_token();
    all->MergeFrom(page);
  } while (!request.page_token().empty());
  return absl::OkStatus();
}

bool HasAlarm(const v1::ListInDoubtResponse& response) {
  return std::any_of(response.branches().begin(), response.branches().end(),
                     [](const InDoubtBranch& branch) { return branch.alarm(); }) ||
         std::any_of(response.resources().begin(), response.resources().end(), IsQuarantined);
}

std::string RenderLockWaits(const google::protobuf::RepeatedPtrField<v1::LockWait>& waits) {
  if (waits.empty()) return "No session waits for a lock of a branch.\n";
  Table table({"WAITING SESSION", "ACCOUNT", "FOR", "TABLE", "INDEX", "HELD BY SESSION", "GTRID", "BRANCH"});
  for (const v1::LockWait& wait : waits) {
    table.Add({wait.waiting_connection_id() == 0 ? "?" : absl::StrCat(wait.waiting_connection_id()),
               wait.waiting_user(), Span(GetDuration(wait.waited())), wait.table(), wait.index(),
               wait.blocking_connection_id() == 0 ? "none (detached)" : absl::StrCat(wait.blocking_connection_id()),
               wait.gtrid().empty() ? "?" : wait.gtrid(), wait.bqual().empty() ? "?" : wait.bqual()});
  }
  return table.Render();
}

std::string RenderInDoubt(const v1::ListInDoubtResponse& response, const InDoubtOptions& options, absl::Time now) {
  std::vector<std::string> parts = {Headline(response)};
  const std::string branches = RenderBranches(response, options.limit, now);
  if (!branches.empty()) parts.push_back(branches);
  if (options.with_locks) parts.push_back(RenderLocks(response));
  parts.push_back(RenderResources(response, now) + RenderGhosts(response));
  return absl::StrJoin(parts, "\n");
}

int ShowInDoubt(Session* session, const InDoubtOptions& options) {
  v1::ListInDoubtResponse response;
  const absl::Status status = FetchInDoubt(session, options.resource, options.with_locks, &response);
  const int shown = Show(session, status, response, [&options](const v1::ListInDoubtResponse& all) {
    return RenderInDoubt(all, options, absl::Now());
  });
  if (shown != kExitOk) return shown;
  if (!session->options().json && options.limit > 0 && response.branches_size() > options.limit) {
    Complain(absl::StrCat(response.branches_size() - options.limit, " more branches; --limit 0 shows all"));
  }
  return options.exit_code && HasAlarm(response) ? kExitError : kExitOk;
}

}  // namespace assent
