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
};

struct BeginOptions {
  // From Begin to ROLLBACK if undecided; zero: the coordinator's default.
  absl::Duration timeout = absl::ZeroDuration();
  // The caller's own id; empty: the coordinator makes one.
  std::string gtrid;
  // ON_FINALIZE: Commit decides. WHEN_ALL_PREPARED: the last of `expected_branches` votes does.
  v1::DecisionPolicy policy = v1::DECISION_POLICY_ON_FINALIZE;
  int expected_branches = 0;
  // Resources to create a branch on in the same round trip; OpenBranch then costs none.
  std::vector<std::string> resources;
};

}  // namespace assent

#endif  // ASSENT_PARTICIPANT_SDK_CPP_OPTIONS_H_
