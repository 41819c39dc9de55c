#include "tools/assentctl/globals.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/timestamp.h"
#include "tools/assentctl/text.h"

namespace assent {
namespace {

using v1::Branch;
using v1::Global;

constexpr size_t kWhyInList = 72;
constexpr int kMaxPage = 1000;

// The name of an enum value without its prefix; the number for one that a newer coordinator knows.
template <typename Enum>
std::string Word(const std::string& name, absl::string_view prefix, Enum value) {
  if (name.empty()) return absl::StrCat(static_cast<int>(value));
  return std::string(absl::StripPrefix(name, prefix));
}
std::string StateWord(Global::State state) { return Word(Global::State_Name(state), "STATE_", state); }
std::string StateWord(Branch::State state) { return Word(Branch::State_Name(state), "STATE_", state); }
std::string VoteWord(v1::VoteKind kind) {
  return kind == v1::VOTE_KIND_UNSPECIFIED ? "none" : Word(v1::VoteKind_Name(kind), "VOTE_KIND_", kind);
}
std::string DecisionWord(v1::Decision decision) { return Word(v1::Decision_Name(decision), "DECISION_", decision); }

// The ids of the branches of which `wanted` is true, and their number.
template <typename Predicate>
std::vector<std::string> BranchesThat(const Global& global, Predicate wanted) {
  std::vector<std::string> ids;
  for (const Branch& branch : global.branches()) {
    if (wanted(branch)) ids.push_back(branch.bqual());
  }
  return ids;
}

bool IsDone(const Branch& branch) {
  return branch.state() == Branch::STATE_READ_ONLY || branch.state() == Branch::STATE_COMMITTED ||
         branch.state() == Branch::STATE_ROLLED_BACK;
}

bool IsPrepared(const Branch& branch) {
  return branch.state() == Branch::STATE_READ_ONLY || branch.state() == Branch::STATE_PREPARED;
}

bool IsHeuristic(const Branch& branch) {
  return branch.state() == Branch::STATE_HEURISTIC_COMMITTED || branch.state() == Branch::STATE_HEURISTIC_ROLLED_BACK;
}

bool IsSettled(const Global& global) {
  return global.state() == Global::STATE_COMMITTED || global.state() == Global::STATE_ROLLED_BACK ||
         global.state() == Global::STATE_HEURISTIC;
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

std::string DecidedBy(const Global& global) {
  const std::string from = global.decided_by().empty() ? "" : absl::StrCat(" from ", global.decided_by());
  switch (global.cause()) {
    case v1::DECISION_CAUSE_UNSPECIFIED: return "";
    case v1::DECISION_CAUSE_FINALIZE: return absl::StrCat("a Finalize call", from);
    case v1::DECISION_CAUSE_ALL_PREPARED: return absl::StrCat("the last expected vote", from);
    case v1::DECISION_CAUSE_BRANCH_FAILED: return absl::StrCat("a branch that failed, reported", from);
    case v1::DECISION_CAUSE_DEADLINE: return "the coordinator: the deadline had passed";
    case v1::DECISION_CAUSE_PRESUMED_ABORT: return "the coordinator, when it started";
    default: return absl::StrCat("cause ", static_cast<int>(global.cause()), from);
  }
}

std::string Why(const Global& global, absl::Time now) {
  if (global.state() == Global::STATE_ACTIVE) {
    return absl::StrCat("undecided; rolls back ", Relative(GetTime(global.expire_time()), now));
  }
  return global.cause_detail().empty() ? DecidedBy(global) : global.cause_detail();
}

std::string OutcomeText(const v1::GetGlobalResponse& response) {
  const Global& global = response.global();
  switch (response.outcome()) {
    case v1::OUTCOME_COMMITTED: return "committed: every branch is proven committed";
    case v1::OUTCOME_ROLLED_BACK: return "rolled back: every branch is proven rolled back";
    case v1::OUTCOME_UNSPECIFIED: return "none yet: undecided";
    default: break;
  }
  if (global.state() == Global::STATE_HEURISTIC) {
    return absl::StrCat("in doubt: somebody finished ", absl::StrJoin(BranchesThat(global, IsHeuristic), ", "),
                        " against the decision; look at its database");
  }
  const std::vector<std::string> open = BranchesThat(global, [](const Branch& branch) { return !IsDone(branch); });
  return absl::StrCat("in doubt: decided ", DecisionWord(global.decision()), ", not yet proven for ",
                      absl::StrJoin(open, ", "));
}

std::string At(const google::protobuf::Timestamp& time, absl::Time now) {
  const std::string text = FormatTime(time);
  return text.empty() ? "" : absl::StrCat(text, " (", Relative(GetTime(time), now), ")");
}

std::string FailureText(const v1::BranchFailure& failure) {
  std::string text;
  if (failure.error_code() != 0) text = absl::StrCat(failure.error_code());
  if (!failure.sqlstate().empty()) absl::StrAppend(&text, text.empty() ? "" : " ", "(", failure.sqlstate(), ")");
  if (!failure.message().empty()) absl::StrAppend(&text, text.empty() ? "" : " ", failure.message());
  return text;
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

absl::Status FetchGlobal(Session* session, const std::string& gtrid, v1::GetGlobalResponse* response) {
  v1::GetGlobalRequest request;
  request.set_gtrid(gtrid);
  return session->Call(session->coordinator(), &v1::CoordinatorService::StubInterface::GetGlobal, request, response);
}

std::string ChangeLine(const v1::GetGlobalResponse& response, absl::Time now) {
  const Global& global = response.global();
  return absl::StrCat(absl::FormatTime("%H:%M:%E3S", now, absl::LocalTimeZone()), "  ", StateWord(global.state()), "  ",
                      Progress(global), "  ", Escape(Why(global, now)), "\n");
}

}  // namespace

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
      states.insert(states.end(), {Global::STATE_ACTIVE, Global::STATE_COMMITTING, Global::STATE_ROLLING_BACK,
                                   Global::STATE_HEURISTIC});
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
  if (global.decision() == v1::DECISION_UNSPECIFIED) sheet.Add("Rolls back", At(global.expire_time(), now));
  sheet.Add("Ended", At(global.end_time(), now));
  sheet.Add("Timeout", absl::FormatDuration(GetDuration(global.timeout())));
  sheet.Add("Policy", PolicyText(global));
  sheet.Add("Request id", global.request_id());
  std::string out = sheet.Render();
  if (global.branches().empty()) return out + "\nNo branches.\n";
  Table table({"BRANCH", "RESOURCE", "STATE", "VOTE", "CHANGED", "FAILURE"});
  for (const Branch& branch : global.branches()) {
    table.Add({branch.bqual(), branch.resource(), StateWord(branch.state()), VoteWord(branch.vote()),
               At(branch.update_time(), now), FailureText(branch.failure())});
  }
  return absl::StrCat(out, "\n", table.Render());
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
  if (absl::Status status = FetchGlobal(session, gtrid, &response); !status.ok()) return session->Fail(status);
  if (session->options().json) {
    PrintJson(response);
  } else {
    std::cout << RenderGlobal(response, absl::Now()) << std::flush;
  }
  return kExitOk;
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
