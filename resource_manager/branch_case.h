// BranchCase: one branch on its way through a round of recovery; and the look at what the database knows about many.
#ifndef ASSENT_RESOURCE_MANAGER_BRANCH_CASE_H_
#define ASSENT_RESOURCE_MANAGER_BRANCH_CASE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "resource_manager/branch_judge.h"
#include "resource_manager/branch_recovery.h"
#include "resource_manager/mariadb_session.h"

namespace assent {

struct BranchCase {
  const BranchTask* task = nullptr;
  BranchFacts facts;
  Verdict verdict;
  // What was seen of its session holds for its branch being prepared: the session is named, or the branch was prepared
  // before it was looked for.
  bool session_covered = false;
  bool looked = false;           // The facts hold at least one look.
  bool wrong_id = false;         // Session.transaction_id is another transaction's: it proves nothing.
  std::string done;              // For Evidence.done.
  DbError error;                 // Of the last statement in `done` that failed.
  std::string hint;              // What helps against `error`, or makes the witness unknowable.
  bool lacks_privilege = false;  // `hint` is a GRANT.
};

// Which life of which server a session is of, by what it says of itself.
enum class SessionLife {
  kThis,     // Its connection id means what it says.
  kAnother,  // Of an earlier one, or of another server: it is gone.
  kUnclear,  // A clock was set: it claims a later start of the server than the server itself, or none that can be.
};
SessionLife LifeOf(const v1::Session& session, const ServerIdentity& identity);
inline bool IsOfThisLife(const v1::Session& session, const ServerIdentity& identity) {
  return LifeOf(session, identity) == SessionLife::kThis;
}

BranchCase OpenCase(const BranchTask& task, const ServerIdentity& identity);
// Adds to what was done.
void NoteDone(BranchCase* branch, absl::string_view statement, const DbError& error);
// What the case has come to.
BranchFinding FindingOf(const BranchCase& branch, const ServerIdentity& identity);

// Brings the facts of all cases up to date over `session`. Sessions come first, then XA RECOVER, then the witnesses, so
// that a later absence holds. Sessions of which nothing is left are not looked at again; if some are about to go, waits
// for them a moment. Where it must do without the engine's word (no PROCESS) and `patient`, it lets listed branches of
// unknown sessions settle.
absl::Status LookAt(MariaDbSession* session, const ServerIdentity& identity, bool patient,
                    absl::Span<BranchCase* const> cases);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_BRANCH_CASE_H_
