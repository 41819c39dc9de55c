// Options of the C++ SDK.
#ifndef ASSENT_PARTICIPANT_SDK_CPP_OPTIONS_H_
#define ASSENT_PARTICIPANT_SDK_CPP_OPTIONS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "assent/v1/global.pb.h"

namespace grpc {
class ChannelCredentials;
}  // namespace grpc

namespace assent {

struct ClientOptions {
  // Null: plaintext.
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  // How long calls that may still be given up (before any branch is prepared) are repeated while the coordinator does
  // not answer.
  absl::Duration call_patience = absl::Seconds(30);
  // How long to ask for a decision once branches are prepared. They hold their locks meanwhile; afterwards they are in
  // doubt.
  absl::Duration decision_patience = absl::Minutes(5);
  // All calls share one stream to the coordinator, which is several times cheaper. False: each is a unary call, for
  // what is between here and the coordinator and balances or counts calls. Where no stream is offered that happens by
  // itself.
  bool call_stream = true;
};

struct BeginOptions {
  // Nobody else takes part: every branch is opened by this object. Begin and OpenBranch then ask nobody and Commit
  // makes one call, which creates the transaction with its decision. Until then the coordinator knows nothing of it:
  // another process cannot join it (GLOBAL_NOT_FOUND), it is not listed, and if this process dies with a branch
  // prepared, recovery rolls that back when it has seen it for the resource's orphan age, not at the timeout. Not
  // together with `policy` or `expected_branches`, and with a `gtrid` only if that is `<cluster>-<ULID>`, made now:
  // INVALID_FIELD.
  bool sole_participant = false;
  // A sole participant of which only one branch has written (on MariaDB without a binary log, with a witness, under a
  // gtrid that the coordinator has made) commits that in one phase: one forced write at its database and none to wait
  // for at the coordinator, which is told afterwards. If the answer is lost, or this process dies, the branch's witness
  // is all that tells how it ended: Commit asks the coordinator to look; and of a process that died, GetGlobal may say
  // GLOBAL_NOT_FOUND until a sweep of the resource has found the commit. `timeout` counts if it is given. False: always
  // two phases, with the decision on record first.
  bool one_phase_commit = true;
  // From Begin to ROLLBACK if undecided; zero: the coordinator's default.
  absl::Duration timeout = absl::ZeroDuration();
  // The caller's own id; empty: the coordinator makes one.
  std::string gtrid;
  // ON_FINALIZE: Commit decides. WHEN_ALL_PREPARED: the last of `expected_branches` votes does.
  v1::DecisionPolicy policy = v1::DECISION_POLICY_ON_FINALIZE;
  int expected_branches = 0;
  // Resources to create a branch on in the same round trip; OpenBranch then costs none. A sole participant needs none.
  std::vector<std::string> resources;
};

}  // namespace assent

#endif  // ASSENT_PARTICIPANT_SDK_CPP_OPTIONS_H_
