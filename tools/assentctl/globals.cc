#include "tools/assentctl/globals.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "base/timestamp.h"
#include "tools/assentctl/text.h"
#include "tools/assentctl/words.h"

namespace assent {
namespace {

using v1::Branch;
using v1::Global;

constexpr size_t kWhyInList = 72;
constexpr int kMaxPage = 1000;
constexpr int kHistoryInGet = 20;

// The ids of the branches of which `wanted` is true, and their number.
template <typename Predicate>
std::vector<std::string> BranchesThat(const Global& global, Predicate wanted) {
  std::vector<std::string> ids;
  for (const Branch& branch : global.branches()) {
    if (wanted(branch)) ids.push_back(branch.bqual());
  }
  return ids;
}

bool IsPrepared(const Branch& branch) {
  return branch.state() == Branch::STATE_READ_ONLY || branch.state() == Branch::STATE_PREPARED;
}

bool IsSettled(const Global& global) {
  return global.state() == Global::STATE_COMMITTED || global.state() == Global::STATE_ROLLED_BACK ||
         global.state() == Global::STATE_HEURISTIC || global.state() == Global::STATE_HEURISTIC_CLOSED;
}

// "1/2 prepared"; only the number once there is no more to come.
std::string Progress(const Global& global) {
  const int all = std::max(global.branches_size(), global.expected_branches());
  const auto of = [&](const std::vector<std::string>& ids, absl::string_view what) {
    return absl::StrCat(ids.size(), "/", all, " ", what);
  };
  switch (global.state()) {
    case Global::STATE_ACTIVE: return of(BranchesThat(global, IsPrepared), "prepared");
    case Global::STATE_COMMITTING: return of(BranchesThat(global, IsDone), "committed");
    case Global::STATE_ROLLING_BACK: return of(BranchesThat(global, IsDone), "rolled back");
    default: return absl::StrCat(global.branches_size());
  }
}

// A record that only keeps out a late call: of branches that were found prepared, of which nobody had told.
bool IsBuried(const Global& global) {
  return global.cause() == v1::DECISION_CAUSE_PRESUMED_ABORT && global.branches().empty();
}

std::string DecidedBy(const Global& global) {
  const std::string from = global.decided_by().empty() ? "" : absl::StrCat(" from ", global.decided_by());
  switch (global.cause()) {
    case v1::DECISION_CAUSE_UNSPECIFIED: return "";
    case v1::DECISION_CAUSE_FINALIZE: return absl::StrCat("a Finalize call", from);
    case v1::DECISION_CAUSE_ALL_PREPARED: return absl::StrCat("the last expected vote", from);
    case v1::DECISION_CAUSE_BRANCH_FAILED: return absl::StrCat("a branch that failed, reported", from);
    case v1::DECISION_CAUSE_DEADLINE: return "the coordinator: the deadline had passed";
    case v1::DECISION_CAUSE_PRESUMED_ABORT:
      return IsBuried(global) ? "the coordinator, which found a branch prepared of what nobody had created"
                              : "the coordinator, when it started";
    case v1::DECISION_CAUSE_ONE_PHASE:
      return absl::StrCat("its database: ", global.decision() == v1::DECISION_COMMIT ? "" : "not ",
                          "committed in one phase; reported", from);
    default: return absl::StrCat("cause ", static_cast<int>(global.cause()), from);
  }
}

std::string Why(const Global& global, absl::Time now) {
  if (global.state() == Global::STATE_ACTIVE) {
    return absl::StrCat("undecided; rolls back ", Relative(GetTime(global.expire_time()), now));
  }
  if (global.state() == Global::STATE_ONE_PHASE) return "committed in one phase, or not: the answer was lost";
  return global.cause_detail().empty() ? DecidedBy(global) : global.cause_detail();
}

bool IsDeclared(const v1::Branch& branch) {
  return !branch.evidence().empty() && !branch.evidence().rbegin()->resolved_by().empty();
}

// What rests on an operator's word and not on proof.
std::string ExceptDeclared(const Global& global) {
  const std::vector<std::string> declared = BranchesThat(global, IsDeclared);
  return declared.empty() ? "" : absl::StrCat(", but an operator's word for ", absl::StrJoin(declared, ", "));
}

std::string OutcomeText(const v1::GetGlobalResponse& response) {
  const Global& global = response.global();
  switch (response.outcome()) {
    case v1::OUTCOME_COMMITTED:
      return absl::StrCat("committed: every branch is proven committed", ExceptDeclared(global));
    case v1::OUTCOME_ROLLED_BACK:
      if (IsBuried(global)) return "rolled back: it can never commit; what is found prepared of it is rolled back";
      return absl::StrCat("rolled back: every branch is proven rolled back", ExceptDeclared(global));
    case v1::OUTCOME_UNSPECIFIED: return "none yet: undecided";
    default: break;
  }
  if (global.state() == Global::STATE_HEURISTIC) {
    return absl::StrCat("in doubt: somebody finished ", absl::StrJoin(BranchesThat(global, IsHeuristic), ", "),
                        " against the decision; look at its database");
  }
  if (global.state() == Global::STATE_HEURISTIC_CLOSED) {
    return absl::StrCat("mixed: ", absl::StrJoin(BranchesThat(global, IsHeuristic), ", "),
                        " ended against the decision ", DecisionWord(global.decision()),
                        ", and an operator has closed it; what was done about it stands in its history");
  }
  const std::vector<std::string> open = BranchesThat(global, [](const Branch& branch) { return !IsDone(branch); });
  if (global.state() == Global::STATE_ONE_PHASE) {
    return absl::StrCat("in doubt: ", absl::StrJoin(open, ", "),
                        " was to be committed in one phase, and the answer was lost; its database decides");
  }
  return absl::StrCat("in doubt: decided ", DecisionWord(global.decision()), ", not yet proven for ",
                      absl::StrJoin(open, ", "));
}

std::string PolicyText(const Global& global) {
  std::string text =
      global.policy() == v1::DECISION_POLICY_WHEN_ALL_PREPARED ? "when all are prepared" : "when Finalize asks";
  if (global.expected_branches() > 0) absl::StrAppend(&text, ", ", global.expected_branches(), " branches expected");
  return text;
}

// Fetches pages until `limit` (0: all).
absl::Status FetchGlobals(Session* session, const std::vector<Global::State>& states, int limit,
                          v1::ListGlobalsResponse* all) {
  v1::ListGlobalsRequest request;
  for (const Global::State state : states) request.add_states(state);
  do {
    request.set_page_size(limit == 0 ? kMaxPage : std::min(kMaxPage, limit - all->globals_size()));
    v1::ListGlobalsResponse page;
    absl::Status status =
        session->Call(session->coordinator(), &v1::CoordinatorService::StubInterface::ListGlobals, request, &page);
    if (!status.ok()) return status;
    request.set_page_token(page.next_page_token());
    const std::string token = page.next_page_token();
    all->MergeFrom(page);
    all->set_next_page_token(token);
  } while (!request.page_token().empty() && (limit == 0 || all->globals_size() < limit));
  return absl::OkStatus();
}

// What was found at the databases, by branch, oldest first; empty if nothing was.
std::string RenderEvidence(const Global& global, absl::Time now) {
  Table table({"BRANCH", "FOUND AT", "OUTCOME", "EVIDENCE"});
  for (const Branch& branch : global.branches()) {
    for (const v1::Evidence& evidence : branch.evidence()) {
      std::vector<std::string> lines;
      for (const std::string& line : {EvidenceText(evidence), evidence.detail()}) {
        if (!line.empty()) lines.push_back(line);
      }
      if (!evidence.server().empty()) lines.push_back(absl::StrCat("answered by ", evidence.server()));
      table.Add(
          {branch.bqual(), At(evidence.time(), now), OutcomeWord(evidence.outcome()), lines.empty() ? "" : lines[0]});
      for (size_t i = 1; i < lines.size(); ++i) table.Add({"", "", "", lines[i]});
    }
  }
  return table.empty() ? "" : table.Render();
}

std::string ChangeLine(const v1::GetGlobalResponse& response, absl::Time now) {
  const Global& global = response.global();
  return absl::StrCat(absl::FormatTime("%H:%M:%E3S", now, absl::LocalTimeZone()), "  ", StateWord(global.state()), "  ",
                      Progress(global), "  ", Escape(Why(global, now)), "\n");
}

}  // namespace

absl::Status FetchGlobal(Session* session, const std::string& gtrid, v1::GetGlobalResponse* response) {
  v1::GetGlobalRequest request;
  request.set_gtrid(gtrid);
  return session->Call(session->coordinator(), &v1::CoordinatorService::StubInterface::GetGlobal, request, response);
}

std::vector<std::string> StateWords() {
  std::vector<std::string> words = {"open"};
  for (int i = Global::State_MIN + 1; i <= Global::State_MAX; ++i) {
    if (!Global::State_IsValid(i)) continue;
    words.push_back(absl::AsciiStrToLower(absl::StrReplaceAll(StateWord(static_cast<Global::State>(i)), {{"_", "-"}})));
  }
  return words;
}

std::vector<Global::State> StatesOf(const std::vector<std::string>& words) {
  std::vector<Global::State> states;
  for (const std::string& word : words) {
    if (word == "open") {
      states.insert(states.end(), {Global::STATE_ACTIVE, Global::STATE_ONE_PHASE, Global::STATE_COMMITTING,
                                   Global::STATE_ROLLING_BACK, Global::STATE_HEURISTIC});
      continue;
    }
    Global::State state;
    const std::string name = "STATE_" + absl::AsciiStrToUpper(absl::StrReplaceAll(word, {{"-", "_"}}));
    if (Global::State_Parse(name, &state)) states.push_back(state);
  }
  std::sort(states.begin(), states.end());
  states.erase(std::unique(states.begin(), states.end()), states.end());
  return states;
}

std::string RenderGlobals(const v1::ListGlobalsResponse& response, absl::Time now) {
  Table table({"GTRID", "STATE", "BRANCHES", "CREATED", "WHY"});
  for (const Global& global : response.globals()) {
    table.Add({global.gtrid(), StateWord(global.state()), Progress(global),
               Relative(GetTime(global.create_time()), now), EscapeAndCut(Why(global, now), kWhyInList)});
  }
  return table.Render();
}

std::string RenderGlobal(const v1::GetGlobalResponse& response, absl::Time now) {
  const Global& global = response.global();
  Sheet sheet;
  sheet.Add("Gtrid", global.gtrid());
  sheet.Add("State", StateWord(global.state()));
  sheet.Add("Outcome", OutcomeText(response));
  if (global.decision() != v1::DECISION_UNSPECIFIED) {
    sheet.Add("Decision", absl::StrCat(DecisionWord(global.decision()), " at ", At(global.decide_time(), now)));
    sheet.Add("Decided by", DecidedBy(global));
    sheet.Add("Why", global.cause_detail());
  }
  sheet.Add("Created", At(global.create_time(), now));
  if (global.state() == Global::STATE_ACTIVE) sheet.Add("Rolls back", At(global.expire_time(), now));
  sheet.Add("Ended", At(global.end_time(), now));
  sheet.Add("Timeout", absl::FormatDuration(GetDuration(global.timeout())));
  sheet.Add("Policy", PolicyText(global));
  sheet.Add("Request id", global.request_id());
  std::string out = sheet.Render();
  if (global.branches().empty()) return out + "\nNo branches.\n";
  Table table({"BRANCH", "RESOURCE", "STATE", "VOTE", "CHANGED", "SESSION", "FAILURE"});
  for (const Branch& branch : global.branches()) {
    const v1::BranchFailure& failure = branch.failure();
    table.Add({branch.bqual(), branch.resource(),
               absl::StrCat(StateWord(branch.state()), branch.acknowledged() ? ", acknowledged" : ""),
               VoteWord(branch.vote()), At(branch.update_time(), now), SessionText(branch.session()),
               ErrorText(failure.error_code(), failure.sqlstate(), failure.message())});
  }
  absl::StrAppend(&out, "\n", table.Render());
  const std::string evidence = RenderEvidence(global, now);
  if (!evidence.empty()) absl::StrAppend(&out, "\n", evidence);
  if (global.history().empty()) return out;
  return absl::StrCat(out, "\n", RenderHistory(global, kHistoryInGet, now));
}

std::string RenderHistory(const Global& global, int limit, absl::Time now) {
  const int first = limit == 0 ? 0 : std::max(0, global.history_size() - limit);
  Table table({"REVISION", "WHEN", "WHAT", "STATE", "WHO", "DETAIL"});
  for (int i = first; i < global.history_size(); ++i) {
    const v1::HistoryEntry& entry = global.history(i);
    table.Add({absl::StrCat(entry.revision()), At(entry.time(), now), EventWord(entry.event()),
               StateWord(entry.state()), entry.actor().empty() ? "the coordinator" : entry.actor(), entry.detail()});
  }
  std::string out = table.Render();
  if (first > 0) {
    absl::StrAppend(&out, first, " earlier ones: assentctl globals history ", Escape(global.gtrid()), "\n");
  }
  if (global.history_omitted() > 0) {
    absl::StrAppend(&out, global.history_omitted(), " votes and completions are not kept: there were too many\n");
  }
  return out;
}

int ListGlobals(Session* session, const std::vector<Global::State>& states, int limit) {
  v1::ListGlobalsResponse response;
  if (absl::Status status = FetchGlobals(session, states, limit, &response); !status.ok()) return session->Fail(status);
  if (session->options().json) {
    PrintJson(response);
  } else {
    std::cout << RenderGlobals(response, absl::Now()) << std::flush;
  }
  if (!response.next_page_token().empty()) Complain("more follow; --limit 0 lists all");
  return kExitOk;
}

int GetGlobal(Session* session, const std::string& gtrid) {
  v1::GetGlobalResponse response;
  const absl::Status status = FetchGlobal(session, gtrid, &response);
  return Show(session, status, response,
              [](const v1::GetGlobalResponse& found) { return RenderGlobal(found, absl::Now()); });
}

int ShowHistory(Session* session, const std::string& gtrid) {
  v1::GetGlobalResponse response;
  const absl::Status status = FetchGlobal(session, gtrid, &response);
  v1::Global only;
  only.set_gtrid(gtrid);
  only.mutable_history()->Swap(response.mutable_global()->mutable_history());
  only.set_history_omitted(response.global().history_omitted());
  return Show(session, status, only,
              [](const v1::Global& global) { return RenderHistory(global, /*limit=*/0, absl::Now()); });
}

int WatchGlobal(Session* session, const std::string& gtrid, absl::Duration interval) {
  int64_t seen = 0;
  bool complained = false;
  for (;; absl::SleepFor(interval)) {
    v1::GetGlobalResponse response;
    const absl::Status status = FetchGlobal(session, gtrid, &response);
    if (!status.ok()) {
      if (seen == 0 || !absl::IsUnavailable(status)) return session->Fail(status);
      if (!complained) Complain("the coordinator does not answer; watching on");
      complained = true;
      continue;
    }
    complained = false;
    if (response.global().revision() == seen) continue;
    seen = response.global().revision();
    if (session->options().json) {
      PrintJson(response, /*compact=*/true);
    } else {
      std::cout << ChangeLine(response, absl::Now()) << std::flush;
    }
    // What cannot be written is the program's to say, at its end.
    if (IsSettled(response.global()) || !std::cout) return kExitOk;
  }
}

int WatchGlobals(Session* session, absl::Duration interval, int rounds) {
  const std::vector<Global::State> open = StatesOf({"open"});
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  bool reached = false, complained = false;
  for (int round = 1;; absl::SleepFor(interval)) {
    v1::ListGlobalsResponse response;
    const absl::Status status = FetchGlobals(session, open, 100, &response);
    if (!status.ok()) {
      if (!reached || !absl::IsUnavailable(status)) return session->Fail(status);
      if (!complained) Complain("the coordinator does not answer; watching on");
      complained = true;
      continue;
    }
    reached = true;
    complained = false;
    const absl::Time now = absl::Now();
    if (session->options().json) {
      PrintJson(response, /*compact=*/true);
    } else {
      if (terminal) std::cout << "\x1b[H\x1b[2J";
      std::cout << absl::FormatTime("%H:%M:%S", now, absl::LocalTimeZone()) << "  " << response.globals_size()
                << (response.next_page_token().empty() ? "" : " or more") << " unfinished\n";
      if (response.globals_size() > 0) std::cout << RenderGlobals(response, now);
      std::cout << std::flush;
    }
    if (round++ == rounds || !std::cout) return kExitOk;
  }
}

}  // namespace assent
