// The calls of a participant on one stream: CoordinatorService.Converse.
#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/grpc_status.h"
#include "base/timestamp.h"
#include "gtest/gtest.h"
#include "tests/daemon/daemon_test_base.h"

namespace assent {
namespace {

using Stream = grpc::ClientReaderWriterInterface<v1::ConverseRequest, v1::ConverseResponse>;

class ConverseTest : public DaemonTest {
 protected:
  void Open() {
    StartDaemon();
    context_ = std::make_unique<grpc::ClientContext>();
    context_->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    stream_ = stubs_->coordinator()->Converse(context_.get());
  }

  // A call to be sent, with the next id.
  v1::StreamCall* Add(v1::ConverseRequest* message) {
    v1::StreamCall* const call = message->add_calls();
    call->set_id(++last_id_);
    return call;
  }
  v1::StreamAnswer Read() {
    while (next_ == received_.answers_size()) {
      next_ = 0;
      if (!stream_->Read(&received_)) {
        ADD_FAILURE() << "the stream has ended";
        return {};
      }
    }
    return received_.answers(next_++);
  }
  // One call, one answer.
  v1::StreamAnswer Ask(const v1::StreamCall& call) {
    v1::ConverseRequest message;
    v1::StreamCall* const mine = Add(&message);
    const int64_t id = mine->id();
    *mine = call;
    mine->set_id(id);
    EXPECT_TRUE(stream_->Write(message));
    v1::StreamAnswer answer = Read();
    EXPECT_EQ(answer.id(), id);
    return answer;
  }
  static absl::optional<Reason> ReasonIn(const v1::StreamAnswer& answer) {
    return ReasonOf(FromRpcStatus(answer.error()));
  }
  void CreateOnStream(const std::string& gtrid) {
    v1::StreamCall create;
    *create.mutable_create_global() = CreateOf(gtrid, {"a", "b"});
    EXPECT_EQ(Ask(create).create_global().global().state(), v1::Global::STATE_ACTIVE);
  }
  // A Prepared without votes, which waits for the decision.
  static v1::PreparedRequest WaitFor(const std::string& gtrid) {
    return VotesOf(gtrid, {}, v1::VOTE_KIND_PREPARED, v1::WAIT_DECIDED);
  }

  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<Stream> stream_;
  v1::ConverseResponse received_;
  int next_ = 0;
  int64_t last_id_ = 0;
};

TEST_F(ConverseTest, AWholeTransactionOnTheStream) {
  Open();
  v1::StreamCall call;
  *call.mutable_create_global() = CreateOf("test-s1", {"a"});
  EXPECT_EQ(Ask(call).create_global().global().gtrid(), "test-s1");
  v1::CreateBranchesRequest* const more = call.mutable_create_branches();
  more->set_gtrid("test-s1");
  v1::BranchSpec* const branch = more->add_branches();
  branch->set_bqual("b");
  branch->set_resource("db");
  EXPECT_EQ(Ask(call).create_branches().branches(0).bqual(), "b");
  *call.mutable_prepared() = VotesOf("test-s1", {"a", "b"});
  EXPECT_EQ(Ask(call).prepared().status().state(), v1::Global::STATE_ACTIVE);
  *call.mutable_finalize() = FinalizeOf("test-s1", v1::DECISION_COMMIT);
  EXPECT_EQ(Ask(call).finalize().status().decision(), v1::DECISION_COMMIT);
  *call.mutable_completed() = CompletionsOf("test-s1", {"a", "b"});
  EXPECT_EQ(Ask(call).completed().results(1).status().outcome(), v1::OUTCOME_COMMITTED);
  call.mutable_reserve_gtrids()->add_resources("db");
  EXPECT_EQ(Ask(call).reserve_gtrids().terms(0).resource(), "db");
  // What was done on the stream is what unary calls see.
  const auto seen = stubs_->Get("test-s1");
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_EQ(seen->outcome(), v1::OUTCOME_COMMITTED);
}

TEST_F(ConverseTest, AWaitingCallHoldsUpNoOther) {
  Open();
  CreateOnStream("test-s2");
  v1::ConverseRequest message;
  v1::StreamCall* const waiting = Add(&message);
  *waiting->mutable_prepared() = WaitFor("test-s2");
  const int64_t waits = waiting->id();
  *Add(&message)->mutable_finalize() = FinalizeOf("test-s2", v1::DECISION_COMMIT);  // Refused: nobody has voted.
  const int64_t refused = last_id_;
  ASSERT_TRUE(stream_->Write(message));
  const v1::StreamAnswer first = Read();
  EXPECT_EQ(first.id(), refused);
  EXPECT_EQ(ReasonIn(first), Reason::BRANCHES_NOT_PREPARED);
  EXPECT_EQ(first.response_case(), v1::StreamAnswer::RESPONSE_NOT_SET);
  v1::ConverseRequest end;
  *Add(&end)->mutable_finalize() = FinalizeOf("test-s2", v1::DECISION_ROLLBACK, v1::WAIT_NONE);
  ASSERT_TRUE(stream_->Write(end));
  std::map<int64_t, v1::StreamAnswer> answers;
  for (int i = 0; i < 2; ++i) {
    v1::StreamAnswer answer = Read();
    answers[answer.id()] = answer;
  }
  EXPECT_EQ(answers.at(last_id_).finalize().status().decision(), v1::DECISION_ROLLBACK);
  EXPECT_EQ(answers.at(waits).prepared().status().decision(), v1::DECISION_ROLLBACK);
}

TEST_F(ConverseTest, BadCallsAreRefusedAloneAndAsTheUnaryCallsWould) {
  Open();
  v1::ConverseRequest message;
  Add(&message);  // Names no request.
  Add(&message)->mutable_prepared()->set_gtrid("it's not");
  Add(&message)->mutable_completed();
  *Add(&message)->mutable_create_global() = CreateOf("test-s3", {"a"});
  ASSERT_TRUE(stream_->Write(message));
  std::map<int64_t, v1::StreamAnswer> answers;
  for (int i = 0; i < 4; ++i) {
    v1::StreamAnswer answer = Read();
    answers[answer.id()] = answer;
  }
  EXPECT_EQ(ReasonIn(answers.at(1)), Reason::INVALID_FIELD);
  EXPECT_EQ(ReasonIn(answers.at(2)), Reason::INVALID_GTRID);
  EXPECT_EQ(ReasonIn(answers.at(3)), Reason::INVALID_FIELD);
  EXPECT_EQ(answers.at(4).create_global().global().gtrid(), "test-s3");
}

TEST_F(ConverseTest, AWaitEndsWhenItsPatienceDoes) {
  Open();
  CreateOnStream("test-s4");
  v1::StreamCall call;
  *call.mutable_prepared() = WaitFor("test-s4");
  SetDuration(absl::Milliseconds(300), call.mutable_patience());
  const absl::Time begin = absl::Now();
  const v1::StreamAnswer answer = Ask(call);
  EXPECT_FALSE(answer.has_error());
  EXPECT_EQ(answer.prepared().status().decision(), v1::DECISION_UNSPECIFIED);
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(200));
}

TEST_F(ConverseTest, AHalfClosedStreamEndsWhenAllIsAnswered) {
  Open();
  CreateOnStream("test-s5");
  v1::ConverseRequest message;
  *Add(&message)->mutable_prepared() = WaitFor("test-s5");
  ASSERT_TRUE(stream_->Write(message));
  ASSERT_TRUE(stream_->WritesDone());
  ASSERT_TRUE(stubs_->Finalize(FinalizeOf("test-s5", v1::DECISION_ROLLBACK, v1::WAIT_NONE)).ok());
  EXPECT_EQ(Read().prepared().status().decision(), v1::DECISION_ROLLBACK);
  v1::ConverseResponse more;
  EXPECT_FALSE(stream_->Read(&more));
  EXPECT_TRUE(stream_->Finish().ok());
}

TEST_F(ConverseTest, TooManyUnansweredCallsAreRefused) {
  constexpr int kLimit = 10000;
  Open();
  CreateOnStream("test-s6");
  for (int sent = 0; sent < kLimit;) {
    v1::ConverseRequest message;
    for (int i = 0; i < 1000; ++i, ++sent) *Add(&message)->mutable_prepared() = WaitFor("test-s6");
    ASSERT_TRUE(stream_->Write(message));
  }
  v1::StreamCall one_more;
  *one_more.mutable_prepared() = WaitFor("test-s6");
  EXPECT_EQ(ReasonIn(Ask(one_more)), Reason::OVERLOADED);
  // The others are well.
  ASSERT_TRUE(stubs_->Finalize(FinalizeOf("test-s6", v1::DECISION_ROLLBACK, v1::WAIT_NONE)).ok());
  for (int i = 0; i < kLimit; ++i) ASSERT_EQ(Read().prepared().status().decision(), v1::DECISION_ROLLBACK) << i;
}

// Whoever goes leaves nothing behind that would hold up the daemon's end, and neither does who stays and is silent.
TEST_F(ConverseTest, NeitherAClientThatGoesNorOneThatStaysHoldsUpTheEnd) {
  Open();
  CreateOnStream("test-s7");
  grpc::ClientContext other;
  const std::unique_ptr<Stream> stays = stubs_->coordinator()->Converse(&other);
  v1::ConverseRequest message;
  *Add(&message)->mutable_prepared() = WaitFor("test-s7");
  ASSERT_TRUE(stream_->Write(message));
  *Add(&message)->mutable_finalize() = FinalizeOf("test-s7", v1::DECISION_COMMIT);  // Refused: nobody has voted.
  ASSERT_TRUE(stays->Write(message));
  v1::ConverseResponse last;
  ASSERT_TRUE(stays->Read(&last)) << "the daemon has not read what is to wait";
  ASSERT_EQ(ReasonIn(last.answers(0)), Reason::BRANCHES_NOT_PREPARED);
  context_->TryCancel();
  EXPECT_EQ(stream_->Finish().error_code(), grpc::StatusCode::CANCELLED);
  // As the SDK does: the answer is waited for when it comes. What has not been read when a stream is cut off is lost.
  bool answered = false;
  std::thread reader([&] { answered = stays->Read(&last); });
  const absl::Time begin = absl::Now();
  const absl::StatusOr<int> ended = daemon_->Terminate();
  reader.join();
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(*ended, 0);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
  ASSERT_TRUE(answered);
  EXPECT_EQ(ReasonIn(last.answers(0)), Reason::SHUTTING_DOWN);
}

}  // namespace
}  // namespace assent
