#include "base/grpc_status.h"

#include "base/errors.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

bool HasRetryInfo(const google::rpc::Status& status) {
  for (const google::protobuf::Any& any : status.details()) {
    if (any.Is<google::rpc::RetryInfo>()) return true;
  }
  return false;
}

TEST(GrpcStatusTest, EveryReasonSurvivesTheWayThroughGrpc) {
  for (const ReasonInfo& info : AllReasons()) {
    const absl::Status before = MakeError(info.reason, "why", {{"gtrid", "g"}, {"bqual", "b"}});
    const grpc::Status wire = ToGrpcStatus(before);
    EXPECT_EQ(static_cast<int>(wire.error_code()), static_cast<int>(info.code));
    EXPECT_EQ(wire.error_message(), "why");
    const absl::Status after = FromGrpcStatus(wire);
    EXPECT_EQ(after.code(), info.code);
    EXPECT_EQ(after.message(), "why");
    EXPECT_EQ(ReasonOf(after), info.reason);
    EXPECT_EQ(MetadataOf(after), MetadataOf(before));
  }
}

TEST(GrpcStatusTest, RetryInfoGoesWithWhatRepeatingHelpsAndNothingElse) {
  for (const ReasonInfo& info : AllReasons()) {
    EXPECT_EQ(HasRetryInfo(ToRpcStatus(MakeError(info.reason, ""))), info.retry == Retry::kSameCall) << info.name;
  }
}

TEST(GrpcStatusTest, OkIsOkInBothDirections) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
  EXPECT_TRUE(FromRpcStatus(ToRpcStatus(absl::OkStatus())).ok());
}

TEST(GrpcStatusTest, ErrorsOfTheTransportKeepCodeAndMessage) {
  const absl::Status plain = FromGrpcStatus(grpc::Status(grpc::StatusCode::UNAVAILABLE, "connection refused"));
  EXPECT_EQ(plain.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(plain.message(), "connection refused");
  EXPECT_EQ(ReasonOf(plain), absl::nullopt);
}

TEST(GrpcStatusTest, DetailsThatContradictTheStatusAreNotBelieved) {
  const std::string details = ToRpcStatus(MakeError(Reason::GLOBAL_ROLLED_BACK, "claimed")).SerializeAsString();
  const absl::Status other = FromGrpcStatus(grpc::Status(grpc::StatusCode::UNAVAILABLE, "real", details));
  EXPECT_EQ(other.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(other.message(), "real");
  EXPECT_EQ(ReasonOf(other), absl::nullopt);
  const absl::Status garbage = FromGrpcStatus(grpc::Status(grpc::StatusCode::INTERNAL, "real", "\xff\xff\xff"));
  EXPECT_EQ(garbage.code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace assent
