#include "tools/assentctl/words.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/timestamp.h"
#include "tools/assentctl/text.h"

namespace assent {
namespace {

template <typename Enum>
std::string Word(const std::string& name, absl::string_view prefix, Enum value) {
  if (name.empty()) return absl::StrCat(static_cast<int>(value));
  return std::string(absl::StripPrefix(name, prefix));
}

}  // namespace

std::string StateWord(v1::Global::State state) { return Word(v1::Global::State_Name(state), "STATE_", state); }
std::string StateWord(v1::Branch::State state) { return Word(v1::Branch::State_Name(state), "STATE_", state); }
std::string StateWord(v1::ResourceStatus::State state) {
  return Word(v1::ResourceStatus::State_Name(state), "STATE_", state);
}
std::string VoteWord(v1::VoteKind kind) {
  return kind == v1::VOTE_KIND_UNSPECIFIED ? "none" : Word(v1::VoteKind_Name(kind), "VOTE_KIND_", kind);
}
std::string DecisionWord(v1::Decision decision) {
  return decision == v1::DECISION_UNSPECIFIED ? "none" : Word(v1::Decision_Name(decision), "DECISION_", decision);
}
std::string OutcomeWord(v1::BranchOutcome outcome) {
  return outcome == v1::BRANCH_OUTCOME_UNSPECIFIED ? "nothing proven"
                                                   : Word(v1::BranchOutcome_Name(outcome), "BRANCH_OUTCOME_", outcome);
}
std::string SightingWord(v1::Evidence::Sighting sighting) {
  if (sighting == v1::Evidence::SIGHTING_UNSPECIFIED) return "?";
  return absl::AsciiStrToLower(Word(v1::Evidence::Sighting_Name(sighting), "SIGHTING_", sighting));
}
std::string EventWord(v1::HistoryEntry::Event event) {
  return Word(v1::HistoryEntry::Event_Name(event), "EVENT_", event);
}
std::string KindWord(v1::XidReport::Kind kind) { return Word(v1::XidReport::Kind_Name(kind), "KIND_", kind); }
std::string SeverityWord(v1::Finding::Severity severity) {
  return Word(v1::Finding::Severity_Name(severity), "SEVERITY_", severity);
}
std::string EngineWord(v1::Resource::Engine engine) {
  return absl::AsciiStrToLower(Word(v1::Resource::Engine_Name(engine), "ENGINE_", engine));
}

std::vector<std::string> EngineWords() {
  std::vector<std::string> words;
  for (int i = v1::Resource::Engine_MIN + 1; i <= v1::Resource::Engine_MAX; ++i) {
    words.push_back(EngineWord(static_cast<v1::Resource::Engine>(i)));
  }
  return words;
}

v1::Resource::Engine EngineOf(const std::string& word) {
  v1::Resource::Engine engine = v1::Resource::ENGINE_UNSPECIFIED;
  v1::Resource::Engine_Parse(absl::StrCat("ENGINE_", absl::AsciiStrToUpper(word)), &engine);
  return engine;
}

std::string At(const google::protobuf::Timestamp& time, absl::Time now) {
  const std::string text = FormatTime(time);
  return text.empty() ? "" : absl::StrCat(text, " (", Relative(GetTime(time), now), ")");
}

std::string SessionText(const v1::Session& session) {
  if (session.connection_id() == 0) return "";
  return absl::StrCat(session.connection_id(), session.server().empty() ? "" : " on ", session.server());
}

std::string ErrorText(int code, const std::string& sqlstate, const std::string& message) {
  std::vector<std::string> parts;
  if (code != 0) parts.push_back(absl::StrCat(code));
  if (!sqlstate.empty()) parts.push_back(absl::StrCat("(", sqlstate, ")"));
  if (!message.empty()) parts.push_back(message);
  return absl::StrJoin(parts, " ");
}

std::string EvidenceText(const v1::Evidence& evidence) {
  constexpr auto kNobodyLooked = v1::Evidence::SIGHTING_UNSPECIFIED;
  std::vector<std::string> seen;
  if (evidence.prepared_before() != kNobodyLooked || evidence.prepared_after() != kNobodyLooked) {
    seen.push_back(absl::StrCat("prepared ", SightingWord(evidence.prepared_before()), " → ",
                                SightingWord(evidence.prepared_after())));
  }
  if (evidence.session() != kNobodyLooked) seen.push_back(absl::StrCat("session ", SightingWord(evidence.session())));
  if (evidence.witness() != kNobodyLooked) seen.push_back(absl::StrCat("witness ", SightingWord(evidence.witness())));
  if (evidence.ghost()) seen.push_back("a ghost");
  std::vector<std::string> parts;
  if (!seen.empty()) parts.push_back(absl::StrJoin(seen, ", "));
  if (!evidence.done().empty()) parts.push_back(evidence.done());
  const std::string error = ErrorText(evidence.error_code(), evidence.sqlstate(), "");
  if (!error.empty()) parts.push_back(absl::StrCat("answered ", error));
  if (!evidence.resolved_by().empty()) parts.push_back(absl::StrCat("by the word of ", evidence.resolved_by()));
  return absl::StrJoin(parts, "; ");
}

const v1::Evidence* LatestEvidence(const v1::Branch& branch) {
  return branch.evidence().empty() ? nullptr : &branch.evidence(branch.evidence_size() - 1);
}

bool IsDone(const v1::Branch& branch) {
  return branch.state() == v1::Branch::STATE_READ_ONLY || branch.state() == v1::Branch::STATE_COMMITTED ||
         branch.state() == v1::Branch::STATE_ROLLED_BACK;
}

bool IsHeuristic(const v1::Branch& branch) {
  return branch.state() == v1::Branch::STATE_HEURISTIC_COMMITTED ||
         branch.state() == v1::Branch::STATE_HEURISTIC_ROLLED_BACK;
}

}  // namespace assent
