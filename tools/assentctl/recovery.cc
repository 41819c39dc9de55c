#include "tools/assentctl/recovery.h"

#include <algorithm>
#include <iostream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/timestamp.h"
#include "tools/assentctl/globals.h"
#include "tools/assentctl/in_doubt.h"
#include "tools/assentctl/text.h"
#include "tools/assentctl/words.h"

namespace assent {
namespace {

using Stub = v1::CoordinatorService::StubInterface;

std::string GhostText(const v1::ResourceReport& report) {
  if (report.ghosts() < 0) return "ghosts could not be counted (see assentctl doctor)";
  if (report.ghosts() == 0) return "no ghosts";
  return absl::StrCat(report.ghosts(), report.ghosts() == 1 ? " ghost" : " ghosts",
                      " (prepared, with locks, and lost sight of by the server): those of branches with a witness are "
                      "repaired; what is "
                      "still counted after a minute comes back as prepared when the server is restarted");
}

std::string RenderResource(const v1::ResourceReport& report, bool dry_run, absl::Time now) {
  const v1::ResourceStatus& status = report.status();
  std::string out = absl::StrCat(Escape(status.resource()), ": ", StateWord(status.state()));
  if (!status.detail().empty()) absl::StrAppend(&out, ": ", Escape(status.detail()));
  if (status.state() != v1::ResourceStatus::STATE_OK) {
    const std::string since = At(status.since(), now);
    return absl::StrCat(out, since.empty() ? "" : absl::StrCat("; since ", since), "\n");
  }
  absl::StrAppend(&out, "; ", GhostText(report), "\n");
  Table table({"KIND", "GTRID", "BRANCH", "STATE", "DECISION", "FOUND", dry_run ? "WOULD BE DONE" : "DONE"});
  for (const v1::XidReport& xid : report.xids()) {
    const bool recorded = xid.kind() == v1::XidReport::KIND_OURS;
    table.Add({recorded || xid.kind() == v1::XidReport::KIND_ORPHAN
                   ? KindWord(xid.kind())
                   : absl::StrCat(KindWord(xid.kind()), " (format ", xid.format_id(), ")"),
               xid.gtrid(), xid.bqual(), recorded ? StateWord(xid.state()) : "no record",
               recorded ? DecisionWord(xid.decision()) : "", OutcomeWord(xid.evidence().outcome()), xid.action()});
    for (const std::string& line : {EvidenceText(xid.evidence()), xid.evidence().detail()}) {
      if (!line.empty()) table.Add({"", "", "", "", "", "", line});
    }
  }
  absl::StrAppend(&out, table.empty() ? "nothing is prepared and nothing is to be finished\n" : table.Render());
  if (report.xids_omitted() > 0) absl::StrAppend(&out, report.xids_omitted(), " more are not shown\n");
  if (!report.lock_waits().empty()) absl::StrAppend(&out, RenderLockWaits(report.lock_waits()));
  return out;
}

const v1::Branch* FindBranch(const v1::Global& global, const std::string& bqual) {
  for (const v1::Branch& branch : global.branches()) {
    if (branch.bqual() == bqual) return &branch;
  }
  return nullptr;
}

// One end of the transition, e.g. "branch PREPARED, transaction COMMITTING".
std::string StatesText(const v1::Global& global, const std::string& bqual) {
  const v1::Branch* branch = FindBranch(global, bqual);
  return absl::StrCat("branch ", branch == nullptr ? "?" : StateWord(branch->state()),
                      branch != nullptr && branch->acknowledged() ? ", acknowledged" : "", "; transaction ",
                      StateWord(global.state()));
}

// Asks on standard error, so that standard output holds data only.
bool IsConfirmed() {
  std::cerr << "Type yes to declare it: " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  return absl::StripAsciiWhitespace(answer) == "yes";
}

std::string ResolutionWord(v1::Resolution resolution) {
  return absl::AsciiStrToLower(
      absl::StrReplaceAll(absl::StripPrefix(v1::Resolution_Name(resolution), "RESOLUTION_"), {{"_", "-"}}));
}

}  // namespace

std::vector<std::string> ResolutionWords() {
  return {ResolutionWord(v1::RESOLUTION_COMMITTED), ResolutionWord(v1::RESOLUTION_ROLLED_BACK),
          ResolutionWord(v1::RESOLUTION_ACKNOWLEDGED)};
}

v1::Resolution ResolutionOf(const std::string& word) {
  for (const v1::Resolution resolution :
       {v1::RESOLUTION_COMMITTED, v1::RESOLUTION_ROLLED_BACK, v1::RESOLUTION_ACKNOWLEDGED}) {
    if (ResolutionWord(resolution) == word) return resolution;
  }
  return v1::RESOLUTION_UNSPECIFIED;
}

std::string RenderReport(const v1::RecoverResponse& response, bool dry_run, absl::Time now) {
  if (response.resources().empty()) return "No resources are registered.\n";
  std::vector<std::string> parts;
  for (const v1::ResourceReport& report : response.resources()) parts.push_back(RenderResource(report, dry_run, now));
  return absl::StrJoin(parts, "\n");
}

std::string RenderResolution(const v1::GetGlobalResponse& before, const v1::ResolveBranchResponse& validated,
                             const v1::ResolveBranchRequest& request, absl::Time now) {
  const v1::Global& global = before.global();
  const v1::Branch* branch = FindBranch(global, request.bqual());
  Sheet sheet;
  sheet.Add("Gtrid", global.gtrid());
  sheet.Add("Branch", absl::StrCat(request.bqual(), branch == nullptr ? "" : " on ",
                                   branch == nullptr ? "" : branch->resource()));
  if (global.decision() != v1::DECISION_UNSPECIFIED) {
    sheet.Add("Decision", absl::StrCat(DecisionWord(global.decision()), " at ", At(global.decide_time(), now)));
  }
  sheet.Add("Now", StatesText(global, request.bqual()));
  sheet.Add("Found", OutcomeWord(validated.evidence().outcome()));
  sheet.Add("", EvidenceText(validated.evidence()));
  sheet.Add("", validated.evidence().detail());
  sheet.Add("Declare it", ResolutionWord(request.resolution()));
  sheet.Add("Then", StatesText(validated.global(), request.bqual()));
  sheet.Add("Reason", request.reason());
  return sheet.Render();
}

int Recover(Session* session, const v1::RecoverRequest& request) {
  v1::RecoverResponse response;
  const absl::Status status = session->Call(session->coordinator(), &Stub::Recover, request, &response, Pace::kSlow);
  const int shown = Show(session, status, response, [&request](const v1::RecoverResponse& report) {
    return RenderReport(report, request.dry_run(), absl::Now());
  });
  if (shown != kExitOk) return shown;
  const bool complete = std::all_of(
      response.resources().begin(), response.resources().end(),
      [](const v1::ResourceReport& report) { return report.status().state() == v1::ResourceStatus::STATE_OK; });
  return complete ? kExitOk : kExitError;
}

int RetryNow(Session* session, const v1::RetryNowRequest& request) {
  v1::RetryNowResponse response;
  const absl::Status status = session->Call(session->coordinator(), &Stub::RetryNow, request, &response);
  return Show(session, status, response, [](const v1::RetryNowResponse& retried) {
    if (retried.branches() == 0) return std::string("nothing waits for another try\n");
    return absl::StrCat(retried.branches(), retried.branches() == 1 ? " branch is" : " branches are", " tried now\n");
  });
}

int ResolveBranch(Session* session, v1::ResolveBranchRequest request, bool yes) {
  v1::GetGlobalResponse before;
  if (absl::Status status = FetchGlobal(session, request.gtrid(), &before); !status.ok()) return session->Fail(status);
  // From here on it is about this state: if it moves on, the coordinator refuses.
  request.set_etag(before.etag());
  request.set_validate_only(true);
  v1::ResolveBranchResponse response;
  absl::Status status = session->Call(session->coordinator(), &Stub::ResolveBranch, request, &response, Pace::kSlow);
  if (!status.ok()) return session->Fail(status);
  (session->options().json ? std::cerr : std::cout)
      << RenderResolution(before, response, request, absl::Now()) << std::flush;
  if (!yes && !IsConfirmed()) {
    Complain("nothing was declared");
    return kExitError;
  }
  request.set_validate_only(false);
  response.Clear();
  status = session->Call(session->coordinator(), &Stub::ResolveBranch, request, &response, Pace::kSlow);
  return Show(session, status, response, [&request](const v1::ResolveBranchResponse& resolved) {
    return absl::StrCat("declared: ", StatesText(resolved.global(), request.bqual()), "\n");
  });
}

}  // namespace assent
