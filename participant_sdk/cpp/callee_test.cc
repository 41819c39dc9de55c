// A service with a handler that runs as a part of its callers' transactions, over real gRPC calls.
#include "participant_sdk/cpp/callee.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "assent/v1/coordinator_service.grpc.pb.h"
#include "base/grpc_status.h"
#include "participant_sdk/cpp/sdk_test_rig.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

constexpr char kTrace[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

// Any service would do; this one takes from account 1 on `payments`.
class PaymentsService final : public v1::CoordinatorService::Service {
 public:
  PaymentsService(Callee* callee, std::function<std::shared_ptr<BranchSession>()> take_session)
      : callee_(callee), take_session_(std::move(take_session)) {}

  grpc::Status GetGlobal(grpc::ServerContext* context, const v1::GetGlobalRequest* /*request*/,
                         v1::GetGlobalResponse* response) override {
    response->set_etag("paid");
    return callee_->Serve(*context, [this](Part* part) { return Pay(part); });
  }

  std::function<absl::Status(Part* part)> after_its_work;
  std::string traceparent;

 private:
  absl::Status Pay(Part* part) {
    if (part == nullptr) return absl::OkStatus();
    traceparent = part->traceparent();
    const absl::StatusOr<Branch*> payments = part->OpenBranch(kPayments, take_session_());
    if (!payments.ok()) return payments.status();
    const auto paid = (*payments)->Execute("UPDATE bank.accounts SET balance = balance - 1 WHERE id = 1");
    if (!paid.ok()) return paid.status();
    return after_its_work ? after_its_work(part) : absl::OkStatus();
  }

  Callee* const callee_;
  const std::function<std::shared_ptr<BranchSession>()> take_session_;
};

class CalleeTest : public SdkTest {
 protected:
  void SetUp() override {
    SdkTest::SetUp();
    if (IsSkipped()) return;
    callee_ = std::make_unique<Callee>(NewClient());
    service_ = std::make_unique<PaymentsService>(callee_.get(), [this] {
      // A pool's: what comes back is counted.
      return std::shared_ptr<BranchSession>(Session(1).release(), [this](BranchSession* session) {
        (session->lost() ? lost_ : returned_)++;
        delete session;
      });
    });
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = v1::CoordinatorService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  }

  void TearDown() override {
    if (server_ != nullptr) server_->Shutdown();
    callee_.reset();
    SdkTest::TearDown();
  }

  // With what Carry has put into the context.
  absl::Status Call(grpc::ClientContext* context) {
    v1::GetGlobalResponse response;
    const grpc::Status status = stub_->GetGlobal(context, {}, &response);
    if (status.ok()) {
      EXPECT_EQ(response.etag(), "paid");
    }
    return FromGrpcStatus(status);
  }
  absl::Status CallIn(const GlobalTransaction& transaction) {
    grpc::ClientContext context;
    if (absl::Status status = Carry(transaction, &context, kTrace); !status.ok()) return status;
    return Call(&context);
  }

  // One with a part of the caller's own.
  GlobalTransaction BeginAndTake() {
    GlobalTransaction transaction = MustBegin(&client_);
    EXPECT_TRUE(MustOpen(&transaction, kOrders, session(0))->Execute(Take(2)).ok());
    return transaction;
  }

  void ExpectTaken(int times) {
    EXPECT_TRUE(callee_->Flush(absl::Seconds(20)));
    EXPECT_EQ(Taken(2), times);
    EXPECT_EQ(Taken(1), times);
  }

  Client client_ = NewClient();
  std::atomic<int> returned_{0};
  std::atomic<int> lost_{0};
  std::unique_ptr<Callee> callee_;
  std::unique_ptr<PaymentsService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::CoordinatorService::Stub> stub_;
};

TEST_F(CalleeTest, TheHandlerIsAPartOfTheCallersTransaction) {
  GlobalTransaction transaction = BeginAndTake();
  const absl::Status called = CallIn(transaction);
  ASSERT_TRUE(called.ok()) << called;
  EXPECT_EQ(Global(transaction.gtrid()).global().branches_size(), 2);
  EXPECT_EQ(Taken(1), 0) << "nothing is visible before the decision";
  EXPECT_EQ(returned_ + lost_, 0) << "the branch needs its session";
  const absl::Status told = transaction.Commit();
  ASSERT_TRUE(told.ok()) << told;
  ExpectTaken(1);
  EXPECT_EQ(returned_, 1);
  EXPECT_EQ(service_->traceparent, kTrace);
  EXPECT_EQ(Global(transaction.gtrid()).outcome(), v1::OUTCOME_COMMITTED);
}

TEST_F(CalleeTest, TheCallerChangesItsMindAfterTheAnswer) {
  GlobalTransaction transaction = BeginAndTake();
  ASSERT_TRUE(CallIn(transaction).ok());
  ASSERT_TRUE(transaction.Rollback().ok());
  ExpectTaken(0);
  EXPECT_EQ(returned_, 1);
  AwaitOutcome(transaction.gtrid(), v1::OUTCOME_ROLLED_BACK);
}

TEST_F(CalleeTest, TheHandlerFailsAndTheCallerDoesNotCare) {
  service_->after_its_work = [](Part*) { return absl::NotFoundError("no such account"); };
  GlobalTransaction transaction = BeginAndTake();
  EXPECT_EQ(CallIn(transaction), absl::NotFoundError("no such account"));
  const absl::Status told = transaction.Commit();
  EXPECT_EQ(ReasonOf(told), Reason::GLOBAL_ROLLED_BACK) << told;
  EXPECT_THAT(std::string(told.message()), HasSubstr("no such account"));
  ExpectTaken(0);
  EXPECT_EQ(returned_, 1);
}

TEST_F(CalleeTest, TheHandlerThrows) {
  service_->after_its_work = [](Part*) -> absl::Status { throw std::runtime_error("out"); };
  GlobalTransaction transaction = BeginAndTake();
  EXPECT_FALSE(CallIn(transaction).ok());
  EXPECT_EQ(ReasonOf(transaction.Commit()), Reason::GLOBAL_ROLLED_BACK);
  ExpectTaken(0);
}

TEST_F(CalleeTest, AHandlerThatSwallowsADatabaseErrorDoesNotCommitTheRest) {
  service_->after_its_work = [this](Part* part) {
    const absl::StatusOr<Branch*> second = part->OpenBranch("no-such-resource", Session(1));
    EXPECT_EQ(ReasonOf(second.status()), Reason::RESOURCE_NOT_FOUND);
    return absl::OkStatus();
  };
  GlobalTransaction transaction = BeginAndTake();
  EXPECT_EQ(ReasonOf(CallIn(transaction)), Reason::GLOBAL_ROLLED_BACK);
  EXPECT_EQ(ReasonOf(transaction.Commit()), Reason::GLOBAL_ROLLED_BACK);
  ExpectTaken(0);
}

TEST_F(CalleeTest, WithoutATransactionItIsAnOrdinaryCall) {
  grpc::ClientContext context;
  EXPECT_TRUE(Call(&context).ok());
  ExpectTaken(0);
}

TEST_F(CalleeTest, WhatIsRolledBackTakesNobodyIn) {
  GlobalTransaction transaction = MustBegin(&client_);
  ASSERT_TRUE(transaction.Rollback().ok());
  const absl::Status called = CallIn(transaction);
  EXPECT_TRUE(absl::IsAborted(called)) << called;
  EXPECT_EQ(ReasonOf(called), Reason::GLOBAL_ROLLED_BACK);
  ExpectTaken(0);
}

TEST_F(CalleeTest, WhatIsNoGtridIsRefused) {
  for (const std::vector<std::string>& gtrids : {std::vector<std::string>{"a'b"}, {"a", "b"}}) {
    grpc::ClientContext context;
    for (const std::string& gtrid : gtrids) context.AddMetadata(kGtridMetadata, gtrid);
    EXPECT_EQ(ReasonOf(Call(&context)), Reason::INVALID_GTRID);
  }
}

TEST_F(CalleeTest, ASoleParticipantsIsNotSent) {
  BeginOptions options;
  options.sole_participant = true;
  const GlobalTransaction sole = MustBegin(&client_, options);
  EXPECT_TRUE(absl::IsFailedPrecondition(CallIn(sole)));
  EXPECT_EQ(service_->traceparent, "") << "it was not called";
}

TEST_F(CalleeTest, TheCallerDiesAfterTheAnswerAndTheDeadlineEndsIt) {
  BeginOptions options;
  options.timeout = absl::Seconds(2);
  GlobalTransaction transaction = MustBegin(&client_, options);
  ASSERT_TRUE(CallIn(transaction).ok());
  transaction.Leave();  // Nobody will ask for a decision.
  AwaitOutcome(transaction.gtrid(), v1::OUTCOME_ROLLED_BACK);
  ExpectTaken(0);
  EXPECT_EQ(returned_, 1);
}

TEST_F(CalleeTest, TheCoordinatorIsAwayWhileItWaits) {
  GlobalTransaction transaction = BeginAndTake();
  ASSERT_TRUE(CallIn(transaction).ok());
  rig().coordinator().Kill9();
  EXPECT_FALSE(callee_->Flush(absl::Seconds(3)));
  ASSERT_TRUE(rig().coordinator().Restart().ok());
  const absl::Status told = transaction.Commit();
  ASSERT_TRUE(told.ok()) << told;
  ExpectTaken(1);
  EXPECT_EQ(returned_, 1);
}

TEST_F(CalleeTest, OneThatEndsLeavesItsVotesToTheCoordinator) {
  GlobalTransaction transaction = BeginAndTake();
  ASSERT_TRUE(CallIn(transaction).ok());
  callee_.reset();
  EXPECT_EQ(lost_, 1) << "a session with a prepared branch must not go back to a pool";
  const absl::Status told = transaction.Commit();
  EXPECT_TRUE(told.ok()) << told << " (recovery finishes the other branch)";
  EXPECT_EQ(Taken(1), 1);
}

TEST_F(CalleeTest, ManyAtOnce) {
  constexpr int kCalls = 16;
  std::vector<std::thread> callers;
  for (int i = 0; i < kCalls; ++i) {
    callers.emplace_back([this, i] {
      Client client = NewClient();
      GlobalTransaction transaction = MustBegin(&client);
      absl::Status called = CallIn(transaction);
      ASSERT_TRUE(called.ok()) << called;
      if (i % 2 == 0) {
        EXPECT_TRUE(transaction.Commit().ok());
      } else {
        EXPECT_TRUE(transaction.Rollback().ok());
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_TRUE(callee_->Flush(absl::Seconds(20)));
  EXPECT_EQ(Taken(1), kCalls / 2);
  EXPECT_EQ(returned_, kCalls);
}

}  // namespace
}  // namespace assent
