// Many callers on one stream; a coordinator that breaks it; one that has none.
#include "participant_sdk/cpp/coordinator_connection.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "gtest/gtest.h"
#include "tests/daemon/daemon_test_base.h"

namespace assent {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

v1::CreateGlobalRequest Named(const std::string& gtrid) { return CreateOf(gtrid, {"a"}); }

class CoordinatorConnectionTest : public DaemonTest {};

TEST_F(CoordinatorConnectionTest, EveryCallerGetsItsOwnAnswer) {
  StartDaemon();
  CoordinatorConnection connection(daemon_->address(), {});
  std::vector<std::thread> callers;
  std::atomic<int> right{0};
  for (int caller = 0; caller < 16; ++caller) {
    callers.emplace_back([&, caller] {
      for (int i = 0; i < 50; ++i) {
        const std::string gtrid = absl::StrCat("test-", caller, ".", i);
        const auto created = connection.CreateGlobal(Named(gtrid), absl::Now() + kPatience);
        if (created.ok() && created->gtrid() == gtrid) ++right;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(right, 16 * 50);
}

// Whoever waits for long, gives up and comes back is not given what belongs to somebody else.
TEST_F(CoordinatorConnectionTest, ACallThatIsGivenUpDisturbsNoOther) {
  StartDaemon();
  CoordinatorConnection connection(daemon_->address(), {});
  ASSERT_TRUE(connection.CreateGlobal(Named("test-w"), absl::Now() + kPatience).ok());
  std::thread waiter([&] {
    v1::PreparedRequest wait;
    wait.set_gtrid("test-w");
    const auto status = connection.Prepared(wait, absl::Now() + absl::Milliseconds(300));
    if (status.ok()) {
      EXPECT_EQ(status->decision(), v1::DECISION_UNSPECIFIED);
    } else {  // A slow machine: not even the last answer came in time.
      EXPECT_EQ(ReasonOf(status.status()), Reason::COORDINATOR_UNREACHABLE) << status.status();
    }
  });
  for (int i = 0; i < 300; ++i) {
    const auto created = connection.CreateGlobal(Named(absl::StrCat("test-o", i)), absl::Now() + kPatience);
    ASSERT_TRUE(created.ok()) << created.status();
    EXPECT_EQ(created->gtrid(), absl::StrCat("test-o", i));
  }
  waiter.join();
}

TEST_F(CoordinatorConnectionTest, ABrokenStreamIsMadeAnewAndItsCallsRepeated) {
  StartDaemon();
  CoordinatorConnection connection(daemon_->address(), {});
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0}, done{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 8; ++caller) {
    callers.emplace_back([&, caller] {
      for (int i = 0; !stop; ++i) {
        const auto created =
            connection.CreateGlobal(Named(absl::StrCat("test-b", caller, ".", i)), absl::Now() + kPatience);
        ++(created.ok() ? done : failed);
      }
    });
  }
  for (int round = 0; round < 3; ++round) {
    absl::SleepFor(absl::Milliseconds(300));
    const int before = done;
    daemon_->Kill9();
    ASSERT_TRUE(daemon_->Restart().ok());
    while (done == before) absl::SleepFor(absl::Milliseconds(10));
  }
  stop = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(failed, 0);
}

// A coordinator of before there was a stream: only unary calls.
class OldCoordinator : public v1::CoordinatorService::Service {
 public:
  grpc::Status ReserveGtrids(grpc::ServerContext*, const v1::ReserveGtridsRequest*,
                             v1::ReserveGtridsResponse* response) override {
    response->set_prefix("old-");
    return grpc::Status::OK;
  }
};

TEST(OldCoordinatorTest, IsCalledWithoutAStream) {
  OldCoordinator service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  CoordinatorConnection connection(absl::StrCat("127.0.0.1:", port), {});
  for (int i = 0; i < 2; ++i) {
    const auto reserved = connection.ReserveGtrids({}, absl::Now() + kPatience);
    ASSERT_TRUE(reserved.ok()) << reserved.status();
    EXPECT_EQ(reserved->prefix(), "old-");
  }
}

TEST_F(CoordinatorConnectionTest, TheStreamCanBeSwitchedOff) {
  StartDaemon();
  ClientOptions options;
  options.call_stream = false;
  CoordinatorConnection connection(daemon_->address(), options);
  EXPECT_TRUE(connection.CreateGlobal(Named("test-u"), absl::Now() + kPatience).ok());
}

TEST_F(CoordinatorConnectionTest, ErrorsKeepTheirReason) {
  StartDaemon();
  CoordinatorConnection connection(daemon_->address(), {});
  v1::FinalizeRequest unknown;
  unknown.set_gtrid("test-unknown");
  unknown.set_decision(v1::DECISION_COMMIT);
  const absl::Status status = connection.Finalize(unknown, absl::Now() + kPatience).status();
  EXPECT_EQ(ReasonOf(status), Reason::GLOBAL_NOT_FOUND) << status;
}

}  // namespace
}  // namespace assent
