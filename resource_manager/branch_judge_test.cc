#include "resource_manager/branch_judge.h"

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

constexpr v1::Decision kCommit = v1::DECISION_COMMIT;
constexpr v1::Decision kRollback = v1::DECISION_ROLLBACK;

std::string Describe(const BranchFacts& f) {
  return absl::StrCat("decision ", f.decision, " one_phase ", f.one_phase, " voted ", f.voted_prepared, " lease_over ",
                      f.lease_over, " may_kill ", f.may_kill, " named ", f.session_named, " session ",
                      static_cast<int>(f.session), " listed ", f.listed, " witness ", static_cast<int>(f.witness),
                      " was_listed ", f.was_listed, " kill ", static_cast<int>(f.kill), " verb ",
                      static_cast<int>(f.verb), " probe ", static_cast<int>(f.probe), " repair ",
                      static_cast<int>(f.repair), " unwitnessed ", f.unwitnessed, " other_format ", f.other_format,
                      " detached ", f.detached, " elsewhere ", f.elsewhere, " ghosts ", static_cast<int>(f.ghosts));
}

// Calls `visit` with every combination of facts: decided COMMIT, ROLLBACK, or by the database.
void ForAll(const std::function<void(const BranchFacts&)>& visit) {
  BranchFacts f;
  for (const int decided : {0, 1, 2}) {
    f.decision = decided == 1 ? kRollback : kCommit;
    f.one_phase = decided == 2;
    for (const SessionSight session :
         {SessionSight::kGone, SessionSight::kLeaving, SessionSight::kAlive, SessionSight::kUnknown}) {
      f.session = session;
      for (const WitnessSight witness : {WitnessSight::kCommitted, WitnessSight::kUncommitted, WitnessSight::kAbsent,
                                         WitnessSight::kUnknowable, WitnessSight::kNone}) {
        f.witness = witness;
        for (int bits = 0; bits < 8192; ++bits) {
          f.voted_prepared = bits & 1;
          f.lease_over = bits & 2;
          f.may_kill = bits & 4;
          f.session_named = bits & 8;
          f.was_listed = bits & 16;
          f.listed = bits & 32;
          f.unwitnessed = bits & 64;
          f.ghosts = static_cast<GhostSight>((bits >> 7) & 3);
          f.of_other_server = bits & 512;
          f.other_format = bits & 1024;
          f.detached = bits & 2048;
          f.elsewhere = bits & 4096;
          for (const KillResult kill : {KillResult::kNotTried, KillResult::kDone, KillResult::kFailed}) {
            f.kill = kill;
            for (const VerbResult verb : {VerbResult::kNotTried, VerbResult::kOk, VerbResult::kUnknownXid,
                                          VerbResult::kRolledBack, VerbResult::kRetryLater, VerbResult::kOtherError}) {
              f.verb = verb;
              for (const ProbeResult probe :
                   {ProbeResult::kNotTried, ProbeResult::kFree, ProbeResult::kTaken, ProbeResult::kFailed}) {
                f.probe = probe;
                for (const RepairResult repair :
                     {RepairResult::kNotTried, RepairResult::kDone, RepairResult::kImpossible, RepairResult::kFailed}) {
                  f.repair = repair;
                  visit(f);
                  if (testing::Test::HasFailure()) {
                    ADD_FAILURE() << Describe(f);
                    return;  // One is enough to read.
                  }
                }
              }
            }
          }
        }
      }
    }
  }
}

// What the answer of COMMIT proves by itself: on a server that lets go of branches, unless the evidence contradicts it.
bool OkProves(const BranchFacts& f) {
  const bool told_otherwise =
      f.witness == WitnessSight::kUncommitted || (f.witness == WitnessSight::kAbsent && !f.unwitnessed);
  return f.detached && !f.listed && f.verb == VerbResult::kOk && !told_otherwise;
}

// What must hold whatever the facts.
void CheckLaws(const BranchFacts& f) {
  const Verdict verdict = Judge(f);
  EXPECT_FALSE(verdict.detail.empty());

  switch (verdict.outcome) {
    case v1::BRANCH_OUTCOME_COMMITTED:
      EXPECT_TRUE(f.one_phase ? f.witness == WitnessSight::kCommitted
                              : f.decision == kCommit && (f.witness == WitnessSight::kCommitted || OkProves(f)));
      break;
    case v1::BRANCH_OUTCOME_HEURISTIC_COMMITTED:
      EXPECT_TRUE(f.decision == kRollback && f.witness == WitnessSight::kCommitted);
      break;
    case v1::BRANCH_OUTCOME_HEURISTIC_ROLLED_BACK:
      EXPECT_TRUE(f.decision == kCommit && !f.one_phase && !f.listed && f.witness == WitnessSight::kAbsent);
      EXPECT_TRUE(f.voted_prepared || f.was_listed);
      EXPECT_NE(f.verb, VerbResult::kOk) << "an OK without a witness is a riddle, not a rollback";
      EXPECT_FALSE(f.unwitnessed) << "it had none to leave";
      break;
    case v1::BRANCH_OUTCOME_ROLLED_BACK:
      EXPECT_TRUE((f.decision == kRollback || f.one_phase) && !f.listed);
      EXPECT_TRUE(f.witness != WitnessSight::kCommitted && f.witness != WitnessSight::kUncommitted);
      EXPECT_TRUE(f.witness != WitnessSight::kUnknowable || f.verb == VerbResult::kOk ||
                  f.verb == VerbResult::kRolledBack);
      if ((f.witness != WitnessSight::kAbsent || f.unwitnessed) && !f.detached) {
        EXPECT_EQ(f.ghosts, GhostSight::kNone);
      }
      if (f.one_phase) {
        EXPECT_TRUE(f.witness == WitnessSight::kAbsent && !f.unwitnessed) << "nothing else tells";
        EXPECT_TRUE(f.session == SessionSight::kGone || (f.lease_over && f.probe == ProbeResult::kFree));
      }
      break;
    case v1::BRANCH_OUTCOME_NEVER_PREPARED:
      EXPECT_TRUE(!f.listed && !f.voted_prepared && !f.was_listed && f.witness == WitnessSight::kAbsent);
      EXPECT_FALSE(f.one_phase) << "that it was not prepared says nothing of how it ended";
      EXPECT_TRUE(f.session == SessionSight::kGone || (f.lease_over && f.probe == ProbeResult::kFree));
      break;
    case v1::BRANCH_OUTCOME_STILL_PREPARED:
      EXPECT_TRUE(f.listed || f.other_format || f.elsewhere || f.witness == WitnessSight::kUncommitted);
      break;
    default: break;
  }
  const bool open =
      verdict.outcome == v1::BRANCH_OUTCOME_STILL_PREPARED || verdict.outcome == v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE;
  const bool unproven = open || verdict.outcome == v1::BRANCH_OUTCOME_UNSPECIFIED;
  EXPECT_TRUE(!open || verdict.retry) << "it can still be finished";
  EXPECT_TRUE(!verdict.by_hand || (verdict.retry && unproven && verdict.act != Act::kKill));
  if (f.other_format && !f.listed && f.witness != WitnessSight::kCommitted) {
    EXPECT_TRUE(verdict.act == Act::kNothing && unproven) << "what has another format id is never touched";
  }
  if (f.elsewhere && !f.listed) {
    EXPECT_TRUE(unproven && verdict.act == Act::kNothing) << "it is there still";
  }
  EXPECT_TRUE(unproven || verdict.act != Act::kNothing || !verdict.retry);
  EXPECT_TRUE(!verdict.ghost || (!f.listed && f.witness == WitnessSight::kUncommitted));

  const bool alive_within_lease = f.session == SessionSight::kAlive && !f.lease_over && !f.detached;
  EXPECT_TRUE(!alive_within_lease || verdict.act == Act::kNothing) << "it must never be disturbed";
  switch (verdict.act) {
    case Act::kNothing: break;
    case Act::kKill:
      EXPECT_TRUE(f.lease_over && f.may_kill && f.kill == KillResult::kNotTried);
      EXPECT_NE(f.session, SessionSight::kGone);
      EXPECT_NE(f.session, SessionSight::kLeaving);
      EXPECT_TRUE(f.session == SessionSight::kAlive || f.session_named);
      break;
    case Act::kCommit:
    case Act::kRollback:
      EXPECT_EQ(verdict.act, f.decision == kCommit ? Act::kCommit : Act::kRollback);
      EXPECT_TRUE(f.listed && f.verb == VerbResult::kNotTried);
      EXPECT_TRUE(f.decision == kRollback || f.witness != WitnessSight::kAbsent || f.unwitnessed || f.detached)
          << "that it leaves no witness is put on record first";
      EXPECT_TRUE(f.session == SessionSight::kGone || f.session == SessionSight::kUnknown || f.detached)
          << "the detach barrier";
      break;
    case Act::kProbe: EXPECT_TRUE(!f.listed && f.lease_over && f.probe == ProbeResult::kNotTried); break;
    case Act::kRepair:
      EXPECT_TRUE(verdict.ghost && f.session == SessionSight::kGone && f.repair == RepairResult::kNotTried);
      EXPECT_FALSE(f.one_phase);
      break;
  }
}

TEST(BranchJudgeTest, LawsHoldForAllFacts) {
  int combinations = 0;
  ForAll([&](const BranchFacts& facts) {
    ++combinations;
    CheckLaws(facts);
  });
  EXPECT_EQ(combinations, 3 * 4 * 5 * 8192 * 3 * 6 * 4 * 4);
}

struct Row {
  std::string name;
  std::function<void(BranchFacts*)> facts;
  Act act;
  v1::BranchOutcome outcome;
  bool retry;
};

// A branch that voted PREPARED, whose session is gone; not listed; its witness absent.
BranchFacts Typical(v1::Decision decision) {
  BranchFacts facts;
  facts.decision = decision;
  facts.voted_prepared = true;
  facts.session = SessionSight::kGone;
  facts.session_named = true;
  facts.witness = WitnessSight::kAbsent;
  return facts;
}

void CheckRows(v1::Decision decision, const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    BranchFacts facts = Typical(decision);
    row.facts(&facts);
    const Verdict verdict = Judge(facts);
    EXPECT_EQ(verdict.act, row.act) << row.name << ": " << ToString(verdict.act);
    EXPECT_EQ(verdict.outcome, row.outcome) << row.name << ": " << v1::BranchOutcome_Name(verdict.outcome);
    EXPECT_EQ(verdict.retry, row.retry) << row.name;
  }
}

TEST(BranchJudgeTest, Commit) {
  using F = BranchFacts;
  CheckRows(kCommit,
            {
                {"detached",
                 [](F* f) {
                   f->listed = true;
                   f->witness = WitnessSight::kUncommitted;
                 },
                 Act::kCommit, v1::BRANCH_OUTCOME_STILL_PREPARED, true},
                {"detached, and it left no witness", [](F* f) { f->listed = true; }, Act::kNothing,
                 v1::BRANCH_OUTCOME_STILL_PREPARED, true},
                {"the same, now that this is known", [](F* f) { f->listed = f->unwitnessed = true; }, Act::kCommit,
                 v1::BRANCH_OUTCOME_STILL_PREPARED, true},
                {"the same, afterwards", [](F* f) { f->unwitnessed = true; }, Act::kNothing,
                 v1::BRANCH_OUTCOME_UNSPECIFIED, false},
                {"no witness, and the server has ghosts",
                 [](F* f) {
                   f->witness = WitnessSight::kNone;
                   f->ghosts = GhostSight::kSome;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_UNSPECIFIED, false},
                {"done",
                 [](F* f) {
                   f->verb = VerbResult::kOk;
                   f->witness = WitnessSight::kCommitted;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_COMMITTED, false},
                {"OK without a witness to prove it",
                 [](F* f) {
                   f->verb = VerbResult::kOk;
                   f->witness = WitnessSight::kNone;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_UNSPECIFIED, false},
                {"OK, but the witness is not there", [](F* f) { f->verb = VerbResult::kOk; }, Act::kNothing,
                 v1::BRANCH_OUTCOME_UNSPECIFIED, false},
                {"OK that was none: a ghost",
                 [](F* f) {
                   f->verb = VerbResult::kOk;
                   f->witness = WitnessSight::kUncommitted;
                 },
                 Act::kRepair, v1::BRANCH_OUTCOME_STILL_PREPARED, true},
                {"a ghost that cannot be repaired",
                 [](F* f) {
                   f->repair = RepairResult::kImpossible;
                   f->witness = WitnessSight::kUncommitted;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_STILL_PREPARED, true},
                {"somebody committed it", [](F* f) { f->witness = WitnessSight::kCommitted; }, Act::kNothing,
                 v1::BRANCH_OUTCOME_COMMITTED, false},
                {"its own session committed it, and lives on",
                 [](F* f) {
                   f->session = SessionSight::kAlive;
                   f->witness = WitnessSight::kCommitted;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_COMMITTED, false},
                {"somebody rolled it back", [](F*) {}, Act::kNothing, v1::BRANCH_OUTCOME_HEURISTIC_ROLLED_BACK, false},
                {"nothing tells how it ended", [](F* f) { f->witness = WitnessSight::kUnknowable; }, Act::kNothing,
                 v1::BRANCH_OUTCOME_UNSPECIFIED, false},
                {"never prepared", [](F* f) { f->voted_prepared = false; }, Act::kNothing,
                 v1::BRANCH_OUTCOME_NEVER_PREPARED, false},
                {"attached, within its lease",
                 [](F* f) {
                   f->listed = true;
                   f->session = SessionSight::kAlive;
                   f->may_kill = true;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE, true},
                {"attached, past its lease",
                 [](F* f) {
                   f->listed = true;
                   f->session = SessionSight::kAlive;
                   f->lease_over = f->may_kill = true;
                 },
                 Act::kKill, v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE, true},
                {"attached, past its lease, the policy forbids",
                 [](F* f) {
                   f->listed = true;
                   f->session = SessionSight::kAlive;
                   f->lease_over = true;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE, true},
                {"before the barrier",
                 [](F* f) {
                   f->listed = true;
                   f->session = SessionSight::kLeaving;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE, true},
                {"1397 and still listed: somebody has it",
                 [](F* f) {
                   f->listed = true;
                   f->session = SessionSight::kUnknown;
                   f->session_named = false;
                   f->verb = VerbResult::kUnknownXid;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE, true},
                {"1397 and still listed, of a session that cannot be seen but is known",
                 [](F* f) {
                   f->listed = true;
                   f->session = SessionSight::kUnknown;
                   f->verb = VerbResult::kUnknownXid;
                   f->lease_over = f->may_kill = true;
                 },
                 Act::kKill, v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE, true},
                {"a backup",
                 [](F* f) {
                   f->listed = true;
                   f->verb = VerbResult::kRetryLater;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_STILL_PREPARED, true},
                {"an empty branch is left of an interrupted repair",
                 [](F* f) {
                   f->listed = true;
                   f->witness = WitnessSight::kCommitted;
                 },
                 Act::kCommit, v1::BRANCH_OUTCOME_COMMITTED, false},
            });
}

TEST(BranchJudgeTest, ThatItsPrepareLetGoOf) {
  using F = BranchFacts;
  CheckRows(kCommit, {
                         {"listed, its session alive within its lease",
                          [](F* f) {
                            f->detached = f->listed = true;
                            f->session = SessionSight::kAlive;
                          },
                          Act::kCommit, v1::BRANCH_OUTCOME_STILL_PREPARED, true},
                         {"it has been committed, and is prepared a second time (or the list is older)",
                          [](F* f) {
                            f->detached = f->listed = true;
                            f->session = SessionSight::kAlive;
                            f->witness = WitnessSight::kCommitted;
                          },
                          Act::kCommit, v1::BRANCH_OUTCOME_COMMITTED, false},
                         {"somebody else finishes it at the same time",
                          [](F* f) {
                            f->detached = f->listed = true;
                            f->verb = VerbResult::kUnknownXid;
                          },
                          Act::kNothing, v1::BRANCH_OUTCOME_STILL_PREPARED, true},
                         {"OK is proof",
                          [](F* f) {
                            f->detached = true;
                            f->verb = VerbResult::kOk;
                            f->witness = WitnessSight::kNone;
                          },
                          Act::kNothing, v1::BRANCH_OUTCOME_COMMITTED, false},
                         {"OK against the evidence is a riddle",
                          [](F* f) {
                            f->detached = true;
                            f->verb = VerbResult::kOk;
                          },
                          Act::kNothing, v1::BRANCH_OUTCOME_UNSPECIFIED, false},
                         {"not listed, and nothing tells how it ended",
                          [](F* f) {
                            f->detached = true;
                            f->witness = WitnessSight::kNone;
                          },
                          Act::kNothing, v1::BRANCH_OUTCOME_UNSPECIFIED, false},
                         {"open and not listed: just being finished, or in another database",
                          [](F* f) {
                            f->detached = true;
                            f->witness = WitnessSight::kUncommitted;
                          },
                          Act::kNothing, v1::BRANCH_OUTCOME_UNSPECIFIED, true},
                     });
  CheckRows(kRollback, {
                           {"listed, its session alive",
                            [](F* f) {
                              f->detached = f->listed = true;
                              f->session = SessionSight::kAlive;
                            },
                            Act::kRollback, v1::BRANCH_OUTCOME_STILL_PREPARED, true},
                           {"rolled back, and it left nothing that tells",
                            [](F* f) {
                              f->detached = true;
                              f->verb = VerbResult::kOk;
                              f->witness = WitnessSight::kNone;
                            },
                            Act::kNothing, v1::BRANCH_OUTCOME_ROLLED_BACK, false},
                       });
}

TEST(BranchJudgeTest, Rollback) {
  using F = BranchFacts;
  CheckRows(kRollback,
            {
                {"done, without a witness, and no ghost anywhere",
                 [](F* f) {
                   f->verb = VerbResult::kOk;
                   f->witness = WitnessSight::kNone;
                   f->ghosts = GhostSight::kNone;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_ROLLED_BACK, false},
                {"done, without a witness, but a session nobody saw may have had it",
                 [](F* f) {
                   f->verb = VerbResult::kOk;
                   f->witness = WitnessSight::kNone;
                   f->ghosts = GhostSight::kUnknown;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_UNSPECIFIED, true},
                {"not here, and it was to be on another server", [](F* f) { f->of_other_server = true; }, Act::kNothing,
                 v1::BRANCH_OUTCOME_UNSPECIFIED, false},
                {"detached", [](F* f) { f->listed = true; }, Act::kRollback, v1::BRANCH_OUTCOME_STILL_PREPARED, true},
                {"done", [](F* f) { f->verb = VerbResult::kOk; }, Act::kNothing, v1::BRANCH_OUTCOME_ROLLED_BACK, false},
                {"done, but the witness table cannot be read, and nobody could see whether a session had it",
                 [](F* f) {
                   f->verb = VerbResult::kOk;
                   f->witness = WitnessSight::kUnknowable;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_UNSPECIFIED, true},
                {"nobody has its xid, and its witness is open: a ghost",
                 [](F* f) {
                   f->voted_prepared = f->session_named = false;
                   f->session = SessionSight::kUnknown;
                   f->lease_over = true;
                   f->witness = WitnessSight::kUncommitted;
                 },
                 Act::kProbe, v1::BRANCH_OUTCOME_UNSPECIFIED, true},
                {"1402", [](F* f) { f->verb = VerbResult::kRolledBack; }, Act::kNothing, v1::BRANCH_OUTCOME_ROLLED_BACK,
                 false},
                {"1397 and not listed any more",
                 [](F* f) {
                   f->was_listed = true;
                   f->verb = VerbResult::kUnknownXid;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_ROLLED_BACK, false},
                {"somebody committed it", [](F* f) { f->witness = WitnessSight::kCommitted; }, Act::kNothing,
                 v1::BRANCH_OUTCOME_HEURISTIC_COMMITTED, false},
                {"a ghost", [](F* f) { f->witness = WitnessSight::kUncommitted; }, Act::kRepair,
                 v1::BRANCH_OUTCOME_STILL_PREPARED, true},
                {"never prepared", [](F* f) { f->voted_prepared = false; }, Act::kNothing,
                 v1::BRANCH_OUTCOME_NEVER_PREPARED, false},
                {"no witness, and its server knows no such branch",
                 [](F* f) {
                   f->witness = WitnessSight::kNone;
                   f->voted_prepared = false;
                   f->ghosts = GhostSight::kNone;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_ROLLED_BACK, false},
                {"no witness, and it may be a ghost",
                 [](F* f) {
                   f->witness = WitnessSight::kNone;
                   f->ghosts = GhostSight::kSome;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_UNSPECIFIED, true},
                {"no witness, and ghosts cannot be seen",
                 [](F* f) {
                   f->witness = WitnessSight::kNone;
                   f->ghosts = GhostSight::kUnknown;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_UNSPECIFIED, true},
                {"the witness table was made anew", [](F* f) { f->witness = WitnessSight::kUnknowable; }, Act::kNothing,
                 v1::BRANCH_OUTCOME_UNSPECIFIED, false},
                {"active within its lease",
                 [](F* f) {
                   f->voted_prepared = false;
                   f->session = SessionSight::kAlive;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE, true},
                {"perhaps active past its lease: has anybody the xid?",
                 [](F* f) {
                   f->voted_prepared = false;
                   f->session = SessionSight::kAlive;
                   f->lease_over = f->may_kill = true;
                 },
                 Act::kProbe, v1::BRANCH_OUTCOME_UNSPECIFIED, true},
                {"active past its lease",
                 [](F* f) {
                   f->voted_prepared = false;
                   f->session = SessionSight::kAlive;
                   f->lease_over = f->may_kill = true;
                   f->probe = ProbeResult::kTaken;
                 },
                 Act::kKill, v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE, true},
                {"finished on its session, which lives on: no reason to kill it",
                 [](F* f) {
                   f->voted_prepared = false;
                   f->session = SessionSight::kAlive;
                   f->lease_over = f->may_kill = true;
                   f->probe = ProbeResult::kFree;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_NEVER_PREPARED, false},
                {"on a session nobody named, within its lease",
                 [](F* f) {
                   f->voted_prepared = f->session_named = false;
                   f->session = SessionSight::kUnknown;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_UNSPECIFIED, true},
                {"on a session nobody named, past its lease",
                 [](F* f) {
                   f->voted_prepared = f->session_named = false;
                   f->session = SessionSight::kUnknown;
                   f->lease_over = true;
                   f->probe = ProbeResult::kFree;
                 },
                 Act::kNothing, v1::BRANCH_OUTCOME_NEVER_PREPARED, false},
            });
}

}  // namespace
}  // namespace assent
