#include "tools/assentctl/words.h"

#include "base/timestamp.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

TEST(WordsTest, EveryValueOfTheApiHasAWordAndANewerOneItsNumber) {
  EXPECT_EQ(StateWord(v1::Global::STATE_HEURISTIC_CLOSED), "HEURISTIC_CLOSED");
  EXPECT_EQ(StateWord(v1::Branch::STATE_HEURISTIC_ROLLED_BACK), "HEURISTIC_ROLLED_BACK");
  EXPECT_EQ(StateWord(v1::ResourceStatus::STATE_QUARANTINED), "QUARANTINED");
  EXPECT_EQ(VoteWord(v1::VOTE_KIND_UNSPECIFIED), "none");
  EXPECT_EQ(DecisionWord(v1::DECISION_COMMIT), "COMMIT");
  EXPECT_EQ(DecisionWord(v1::DECISION_UNSPECIFIED), "none");
  EXPECT_EQ(OutcomeWord(v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE), "ATTACHED_ELSEWHERE");
  EXPECT_EQ(OutcomeWord(v1::BRANCH_OUTCOME_UNSPECIFIED), "nothing proven");
  EXPECT_EQ(SightingWord(v1::Evidence::SIGHTING_UNCOMMITTED), "uncommitted");
  EXPECT_EQ(SightingWord(v1::Evidence::SIGHTING_UNSPECIFIED), "?");
  EXPECT_EQ(EventWord(v1::HistoryEntry::EVENT_BRANCHES_ADDED), "BRANCHES_ADDED");
  EXPECT_EQ(KindWord(v1::XidReport::KIND_ORPHAN), "ORPHAN");
  EXPECT_EQ(SeverityWord(v1::Finding::SEVERITY_ERROR), "ERROR");
  EXPECT_EQ(EngineWord(v1::Resource::ENGINE_MARIADB), "mariadb");
  EXPECT_EQ(StateWord(static_cast<v1::Global::State>(99)), "99");
  EXPECT_EQ(SightingWord(static_cast<v1::Evidence::Sighting>(98)), "98");
  EXPECT_EQ(EngineWord(static_cast<v1::Resource::Engine>(97)), "97");
}

TEST(WordsTest, EveryEngineHasAWordThatIsReadBack) {
  EXPECT_EQ(EngineWords(), (std::vector<std::string>{"mariadb", "mysql", "postgresql"}));
  for (const std::string& word : EngineWords()) EXPECT_EQ(EngineWord(EngineOf(word)), word);
  EXPECT_EQ(EngineOf("oracle"), v1::Resource::ENGINE_UNSPECIFIED);
}

TEST(WordsTest, SessionsAndErrorsSayWhatThereIsOfThem) {
  v1::Session session;
  EXPECT_EQ(SessionText(session), "");
  session.set_connection_id(17);
  EXPECT_EQ(SessionText(session), "17");
  session.set_server("db1:3306");
  EXPECT_EQ(SessionText(session), "17 on db1:3306");
  EXPECT_EQ(ErrorText(0, "", ""), "");
  EXPECT_EQ(ErrorText(1213, "", ""), "1213");
  EXPECT_EQ(ErrorText(1213, "40001", "Deadlock found"), "1213 (40001) Deadlock found");
  EXPECT_EQ(ErrorText(0, "", "x"), "x");
}

TEST(WordsTest, EvidenceSaysWhatWasSeenAndDoneAndNothingElse) {
  v1::Evidence evidence;
  EXPECT_EQ(EvidenceText(evidence), "");
  evidence.set_prepared_before(v1::Evidence::SIGHTING_PRESENT);
  EXPECT_EQ(EvidenceText(evidence), "prepared present → ?");
  evidence.set_prepared_after(v1::Evidence::SIGHTING_ABSENT);
  evidence.set_session(v1::Evidence::SIGHTING_ABSENT);
  evidence.set_witness(v1::Evidence::SIGHTING_UNCOMMITTED);
  evidence.set_ghost(true);
  evidence.set_done("KILL 17; XA COMMIT");
  evidence.set_error_code(1397);
  evidence.set_sqlstate("XAE04");
  evidence.set_resolved_by("ipv4:10.0.0.7:1");
  EXPECT_EQ(EvidenceText(evidence),
            "prepared present → absent, session absent, witness uncommitted, a ghost; KILL 17; XA COMMIT; answered "
            "1397 (XAE04); by the word of ipv4:10.0.0.7:1");
}

TEST(WordsTest, TheLatestEvidenceIsTheLast) {
  v1::Branch branch;
  EXPECT_EQ(LatestEvidence(branch), nullptr);
  branch.add_evidence()->set_done("first");
  branch.add_evidence()->set_done("second");
  EXPECT_EQ(LatestEvidence(branch)->done(), "second");
}

TEST(WordsTest, TimesAreUtcAndRelative) {
  google::protobuf::Timestamp time;
  const absl::Time now = absl::FromUnixSeconds(1700000000);
  EXPECT_EQ(At(time, now), "");
  SetTime(now - absl::Seconds(3), &time);
  EXPECT_EQ(At(time, now), "2023-11-14T22:13:17.000Z (3s ago)");
}

}  // namespace
}  // namespace assent
