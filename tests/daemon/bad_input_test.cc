// Bad input, against the real assentd: each is refused with its reason and words, and everything else goes on.
#include <grpcpp/generic/generic_stub.h>

#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/timestamp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/daemon/daemon_test_base.h"

namespace assent {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class BadInputTest : public DaemonTest {
 protected:
  void SetUp() override { StartDaemon(); }
  // Whatever was sent: the coordinator still runs, and a normal transaction goes through.
  void TearDown() override {
    if (stubs_ == nullptr) return;
    ExpectNormalTransaction();
    ASSERT_TRUE(daemon_->running());
  }

  template <typename T>
  static std::string Refusal(const absl::StatusOr<T>& result) {
    return ReasonName(result.status());
  }
  template <typename T>
  static std::string Words(const absl::StatusOr<T>& result) {
    return std::string(result.status().message());
  }
  template <typename T>
  static std::string Metadata(const absl::StatusOr<T>& result, const std::string& key) {
    return MetadataOf(result.status())[key];
  }

  // The single result of a call with one completion.
  absl::Status Complete(const std::string& gtrid, const std::string& bqual, v1::Completion::Result result) {
    const auto response = stubs_->Completed(CompletionsOf(gtrid, {bqual}, result));
    if (!response.ok()) return response.status();
    return FromRpcStatus(response->results(0).error());
  }

  v1::Global Stored(const std::string& gtrid) {
    const auto found = stubs_->Get(gtrid);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() ? found->global() : v1::Global();
  }

  void Begin(const std::string& gtrid, const std::vector<std::string>& bquals) {
    const auto created = stubs_->Create(CreateOf(gtrid, bquals));
    ASSERT_TRUE(created.ok()) << created.status();
  }
};

const std::vector<std::string>& BadIds() {
  static const auto* const kIds = new std::vector<std::string>{std::string(65, 'x'),
                                                               std::string(100000, 'x'),
                                                               "it's; DROP TABLE x",
                                                               "\"quoted\"",
                                                               std::string("a\0b", 3),
                                                               std::string("\0", 1),
                                                               "a b",
                                                               "line\nbreak",
                                                               "ü",
                                                               "a%s",
                                                               "../../etc",
                                                               "\x1b[2J"};
  return *kIds;
}

TEST_F(BadInputTest, IdsThatAreNoIdsAreRefusedByEveryCall) {
  Begin("test-g", {"a"});
  std::vector<std::string> ids = BadIds();
  ids.push_back("");
  for (const std::string& id : ids) {
    SCOPED_TRACE(testing::PrintToString(id.substr(0, 70)));
    v1::CreateBranchesRequest add;
    add.set_gtrid(id);
    add.add_branches()->set_resource("db");
    EXPECT_EQ(Refusal(stubs_->AddBranches(add)), "INVALID_GTRID");
    EXPECT_EQ(Refusal(stubs_->Prepared(VotesOf(id, {"a"}))), "INVALID_GTRID");
    EXPECT_EQ(Refusal(stubs_->Finalize(FinalizeOf(id, v1::DECISION_COMMIT))), "INVALID_GTRID");
    EXPECT_EQ(Refusal(stubs_->Get(id)), "INVALID_GTRID");
    EXPECT_EQ(ReasonName(Complete(id, "a", v1::Completion::RESULT_COMMITTED)), "INVALID_GTRID");
    EXPECT_EQ(Refusal(stubs_->Prepared(VotesOf("test-g", {id}))), "INVALID_BQUAL");
    v1::FinalizeRequest finalize = FinalizeOf("test-g", v1::DECISION_COMMIT);
    *finalize.mutable_votes() = VotesOf("test-g", {id}).votes();
    EXPECT_EQ(Refusal(stubs_->Finalize(finalize)), "INVALID_BQUAL");
    EXPECT_EQ(ReasonName(Complete("test-g", id, v1::Completion::RESULT_COMMITTED)), "INVALID_BQUAL");
    if (id.empty()) continue;  // To create with an empty id is to let the coordinator choose.
    const auto created = stubs_->Create(CreateOf(id, {"a"}));
    EXPECT_EQ(Refusal(created), "INVALID_GTRID");
    EXPECT_EQ(Metadata(created, "field"), "gtrid");
    EXPECT_THAT(Words(created), AllOf(HasSubstr("must be 1 to 64 bytes of [A-Za-z0-9._:-]"), Not(HasSubstr(id))));
    EXPECT_EQ(Refusal(stubs_->Create(CreateOf("test-other", {"fine", id}))), "INVALID_BQUAL");
    add.set_gtrid("test-g");
    add.mutable_branches(0)->set_bqual(id);
    EXPECT_EQ(Refusal(stubs_->AddBranches(add)), "INVALID_BQUAL");
  }
  EXPECT_EQ(Stored("test-g").revision(), 1);
  EXPECT_EQ(Refusal(stubs_->Get("test-other")), "GLOBAL_NOT_FOUND");
}

TEST_F(BadInputTest, IdsAtTheLimitWork) {
  const std::string longest = "test-" + std::string(59, 'x');
  Begin(longest, {longest, "._:-"});
  EXPECT_EQ(Stored(longest).branches(0).bqual(), longest);
}

TEST_F(BadInputTest, WhatIsNotUtf8IsRefusedByTheTransport) {
  // Hand-made: no honest client library sends it. Field 1 (gtrid), two bytes.
  const grpc::Slice slice(std::string("\x0a\x02\xff\xfe"));
  grpc::ByteBuffer request(&slice, 1), response;
  grpc::GenericStub generic(stubs_->channel());
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  auto call = generic.PrepareUnaryCall(&context, "/assent.v1.CoordinatorService/GetGlobal", request, &queue);
  grpc::Status status;
  call->StartCall();
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << status.error_message();
  EXPECT_TRUE(status.error_details().empty());
}

TEST_F(BadInputTest, OwnGtridsNeedTheClustersPrefix) {
  for (const std::string gtrid : {"order-1", "tes-1", "testing-1", "test", "test-", "Test-1"}) {
    const auto created = stubs_->Create(CreateOf(gtrid, {"a"}));
    EXPECT_EQ(Refusal(created), gtrid == "test-" ? "OK" : "INVALID_GTRID") << gtrid;
  }
}

TEST_F(BadInputTest, UnknownTransactionsAreNotFoundAndThatMeansRollBack) {
  v1::CreateBranchesRequest add;
  add.set_gtrid("test-nobody");
  add.add_branches()->set_resource("db");
  EXPECT_EQ(Refusal(stubs_->AddBranches(add)), "GLOBAL_NOT_FOUND");
  EXPECT_EQ(Refusal(stubs_->Prepared(VotesOf("test-nobody", {"a"}))), "GLOBAL_NOT_FOUND");
  EXPECT_EQ(Refusal(stubs_->Prepared(VotesOf("test-nobody", {}, v1::VOTE_KIND_PREPARED, v1::WAIT_DECIDED))),
            "GLOBAL_NOT_FOUND");
  EXPECT_EQ(Refusal(stubs_->Finalize(FinalizeOf("test-nobody", v1::DECISION_COMMIT))), "GLOBAL_NOT_FOUND");
  EXPECT_EQ(Refusal(stubs_->Finalize(FinalizeOf("test-nobody", v1::DECISION_ROLLBACK))), "GLOBAL_NOT_FOUND");
  EXPECT_EQ(ReasonName(Complete("test-nobody", "a", v1::Completion::RESULT_COMMITTED)), "GLOBAL_NOT_FOUND");
  EXPECT_THAT(Words(stubs_->Get("test-nobody")), HasSubstr("what is still prepared of it must be rolled back"));
}

// What is not on record here may be committed there: whoever rolled back would break it.
TEST_F(BadInputTest, ATransactionOfAnotherClusterIsNotPresumedAborted) {
  const std::string other = "other-01ARZ3NDEKTSV4RRFFQ69G5FAV";
  v1::CreateBranchesRequest add;
  add.set_gtrid(other);
  add.add_branches()->set_resource("db");
  EXPECT_EQ(Refusal(stubs_->AddBranches(add)), "INVALID_GTRID");
  EXPECT_EQ(Refusal(stubs_->Prepared(VotesOf(other, {"a"}))), "INVALID_GTRID");
  EXPECT_EQ(Refusal(stubs_->Finalize(FinalizeOf(other, v1::DECISION_COMMIT))), "INVALID_GTRID");
  EXPECT_EQ(Refusal(stubs_->Finalize(FinalizeOf(other, v1::DECISION_ROLLBACK))), "INVALID_GTRID");
  EXPECT_EQ(ReasonName(Complete(other, "a", v1::Completion::RESULT_COMMITTED)), "INVALID_GTRID");
  const auto got = stubs_->Get(other);
  EXPECT_EQ(Refusal(got), "INVALID_GTRID");
  EXPECT_EQ(Metadata(got, "problem"), "prefix");
  EXPECT_THAT(Words(got), AllOf(HasSubstr("is not of this cluster, 'test'"), HasSubstr("ask that one"),
                                Not(HasSubstr("rolled back"))));
}

TEST_F(BadInputTest, AVoteForAMissingBranchCountsNoVoteOfTheCall) {
  Begin("test-g", {"a"});
  const auto voted = stubs_->Prepared(VotesOf("test-g", {"a", "missing"}));
  EXPECT_EQ(Refusal(voted), "BRANCH_NOT_FOUND");
  EXPECT_EQ(Metadata(voted, "bqual"), "missing");
  EXPECT_EQ(Stored("test-g").branches(0).state(), v1::Branch::STATE_ACTIVE);
  EXPECT_EQ(ReasonName(Complete("test-g", "missing", v1::Completion::RESULT_ROLLED_BACK)), "BRANCH_NOT_FOUND");
  EXPECT_EQ(Stored("test-g").state(), v1::Global::STATE_ACTIVE);
}

TEST_F(BadInputTest, CommitWithSomeOfTheVotesNamesTheMissingOnes) {
  Begin("test-g", {"a", "b", "c"});
  v1::FinalizeRequest finalize = FinalizeOf("test-g", v1::DECISION_COMMIT);
  *finalize.mutable_votes() = VotesOf("test-g", {"b"}).votes();
  const auto refused = stubs_->Finalize(finalize);
  EXPECT_EQ(Refusal(refused), "BRANCHES_NOT_PREPARED");
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status()));
  EXPECT_EQ(Metadata(refused, "missing"), "a,c");
  EXPECT_EQ(Metadata(refused, "missing_count"), "2");
  EXPECT_THAT(Words(refused), HasSubstr("2 of 3 are not: a,c"));
  // The vote that came along does not count either.
  EXPECT_EQ(Stored("test-g").branches(1).state(), v1::Branch::STATE_ACTIVE);
  ASSERT_TRUE(stubs_->Prepared(VotesOf("test-g", {"a", "b", "c"})).ok());
  EXPECT_TRUE(stubs_->Finalize(finalize).ok());
}

TEST_F(BadInputTest, CommitOfFewerBranchesThanExpectedIsRefused) {
  v1::CreateGlobalRequest create = CreateOf("test-g", {"a"});
  create.set_expected_branches(2);
  ASSERT_TRUE(stubs_->Create(create).ok());
  ASSERT_TRUE(stubs_->Prepared(VotesOf("test-g", {"a"})).ok());
  const auto refused = stubs_->Finalize(FinalizeOf("test-g", v1::DECISION_COMMIT));
  EXPECT_EQ(Refusal(refused), "BRANCHES_NOT_PREPARED");
  EXPECT_THAT(Words(refused), HasSubstr("only 1 of 2 expected branches were created"));
}

TEST_F(BadInputTest, TheOppositeDecisionIsToldTheOneThatStands) {
  Begin("test-rolled", {"a"});
  v1::FinalizeRequest rollback = FinalizeOf("test-rolled", v1::DECISION_ROLLBACK);
  rollback.set_reason("the customer left");
  ASSERT_TRUE(stubs_->Finalize(rollback).ok());
  const auto commit = stubs_->Finalize(FinalizeOf("test-rolled", v1::DECISION_COMMIT));
  EXPECT_EQ(Refusal(commit), "GLOBAL_ROLLED_BACK");
  EXPECT_TRUE(absl::IsAborted(commit.status()));
  EXPECT_THAT(Words(commit), HasSubstr("the customer left"));
  EXPECT_EQ(Metadata(commit, "cause"), "DECISION_CAUSE_FINALIZE");
  EXPECT_THAT(Metadata(commit, "decided_by"), HasSubstr("127.0.0.1"));
  EXPECT_THAT(Metadata(commit, "decide_time"), HasSubstr("T"));
  EXPECT_EQ(Refusal(stubs_->Prepared(VotesOf("test-rolled", {"a"}))), "GLOBAL_ROLLED_BACK");
  v1::CreateBranchesRequest add;
  add.set_gtrid("test-rolled");
  add.add_branches()->set_resource("db");
  EXPECT_EQ(Refusal(stubs_->AddBranches(add)), "GLOBAL_ROLLED_BACK");

  Begin("test-committed", {"a"});
  ASSERT_TRUE(stubs_->Prepared(VotesOf("test-committed", {"a"})).ok());
  ASSERT_TRUE(stubs_->Finalize(FinalizeOf("test-committed", v1::DECISION_COMMIT)).ok());
  const auto late = stubs_->Finalize(FinalizeOf("test-committed", v1::DECISION_ROLLBACK));
  EXPECT_EQ(Refusal(late), "GLOBAL_COMMITTED");
  EXPECT_TRUE(absl::IsFailedPrecondition(late.status()));
  add.set_gtrid("test-committed");
  EXPECT_EQ(Refusal(stubs_->AddBranches(add)), "GLOBAL_COMMITTED");
  // The same decision again is the same answer, not an error.
  EXPECT_TRUE(stubs_->Finalize(FinalizeOf("test-committed", v1::DECISION_COMMIT)).ok());
  EXPECT_EQ(Stored("test-committed").decision(), v1::DECISION_COMMIT);
  EXPECT_EQ(Stored("test-rolled").decision(), v1::DECISION_ROLLBACK);
}

TEST_F(BadInputTest, ChangedVotesAndCompletionsAreRefusedAndContradictionsKept) {
  Begin("test-g", {"a", "b"});
  EXPECT_EQ(ReasonName(Complete("test-g", "a", v1::Completion::RESULT_COMMITTED)), "GLOBAL_NOT_DECIDED");
  ASSERT_TRUE(stubs_->Prepared(VotesOf("test-g", {"a", "b"})).ok());
  EXPECT_EQ(Refusal(stubs_->Prepared(VotesOf("test-g", {"a"}, v1::VOTE_KIND_READ_ONLY))), "VOTE_CHANGED");
  ASSERT_TRUE(stubs_->Finalize(FinalizeOf("test-g", v1::DECISION_COMMIT)).ok());
  ASSERT_TRUE(Complete("test-g", "a", v1::Completion::RESULT_COMMITTED).ok());
  EXPECT_EQ(ReasonName(Complete("test-g", "a", v1::Completion::RESULT_ROLLED_BACK)), "COMPLETION_CHANGED");
  EXPECT_TRUE(Complete("test-g", "b", v1::Completion::RESULT_ROLLED_BACK).ok());
  EXPECT_EQ(Stored("test-g").state(), v1::Global::STATE_HEURISTIC);
  EXPECT_EQ(stubs_->Get("test-g")->outcome(), v1::OUTCOME_IN_DOUBT);
}

TEST_F(BadInputTest, OneBadCompletionDoesNotTouchTheOthers) {
  Begin("test-g", {"a"});
  ASSERT_TRUE(stubs_->Prepared(VotesOf("test-g", {"a"})).ok());
  ASSERT_TRUE(stubs_->Finalize(FinalizeOf("test-g", v1::DECISION_COMMIT)).ok());
  v1::CompletedRequest request = CompletionsOf("test-nobody", {"x"});
  request.MergeFrom(CompletionsOf("test-g", {"missing", "a"}));
  request.MergeFrom(CompletionsOf("bad id", {"x"}));
  const auto response = stubs_->Completed(request);
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->results_size(), 4);
  EXPECT_EQ(ReasonName(FromRpcStatus(response->results(0).error())), "GLOBAL_NOT_FOUND");
  EXPECT_EQ(ReasonName(FromRpcStatus(response->results(1).error())), "BRANCH_NOT_FOUND");
  EXPECT_EQ(response->results(2).status().outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(ReasonName(FromRpcStatus(response->results(3).error())), "INVALID_GTRID");
}

TEST_F(BadInputTest, AGtridIsNeverUsedTwice) {
  Begin("test-g", {"a"});
  EXPECT_TRUE(stubs_->Create(CreateOf("test-g", {"a"})).ok());  // The same content is the same call.
  EXPECT_EQ(Refusal(stubs_->Create(CreateOf("test-g", {"a", "b"}))), "GTRID_IN_USE");
  v1::CreateGlobalRequest with_id = CreateOf("test-g", {"a"});
  with_id.set_request_id("another caller");
  EXPECT_EQ(Refusal(stubs_->Create(with_id)), "GTRID_IN_USE");
  ASSERT_TRUE(stubs_->Finalize(FinalizeOf("test-g", v1::DECISION_ROLLBACK)).ok());
  EXPECT_EQ(Refusal(stubs_->Create(with_id)), "GTRID_IN_USE");
  EXPECT_EQ(Stored("test-g").branches_size(), 1);
}

TEST_F(BadInputTest, ARequestIdWithOtherContentNamesTheField) {
  v1::CreateGlobalRequest create = CreateOf("", {"a"});
  create.set_request_id("r1");
  const auto first = stubs_->Create(create);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(stubs_->Create(create)->global().gtrid(), first->global().gtrid());
  v1::CreateGlobalRequest other = create;
  SetDuration(absl::Seconds(7), other.mutable_timeout());
  EXPECT_EQ(Refusal(stubs_->Create(other)), "REQUEST_ID_REUSED");
  EXPECT_EQ(Metadata(stubs_->Create(other), "field"), "timeout");
  other = create;
  other.mutable_branches(0)->set_bqual("z");
  EXPECT_EQ(Metadata(stubs_->Create(other), "field"), "branches.bqual");
  other = create;
  other.set_expected_branches(1);
  EXPECT_EQ(Metadata(stubs_->Create(other), "field"), "expected_branches");

  v1::CreateBranchesRequest add;
  add.set_gtrid(first->global().gtrid());
  add.set_request_id("r2");
  add.add_branches()->set_resource("db");
  const auto added = stubs_->AddBranches(add);
  ASSERT_TRUE(added.ok());
  EXPECT_EQ(stubs_->AddBranches(add)->branches(0).bqual(), added->branches(0).bqual());
  add.add_branches()->set_resource("db");
  EXPECT_EQ(Refusal(stubs_->AddBranches(add)), "REQUEST_ID_REUSED");
  add.set_request_id("");
  add.mutable_branches(0)->set_bqual("a");
  EXPECT_EQ(Refusal(stubs_->AddBranches(add)), "BRANCH_EXISTS");
  EXPECT_EQ(Stored(first->global().gtrid()).branches_size(), 2);
}

TEST_F(BadInputTest, RequestIdsAreShortPrintableAscii) {
  for (const std::string& id : {std::string(37, 'r'), std::string("line\n"), std::string("ü"), std::string("\0", 1)}) {
    v1::CreateGlobalRequest create = CreateOf("", {});
    create.set_request_id(id);
    const auto refused = stubs_->Create(create);
    EXPECT_EQ(Refusal(refused), "INVALID_FIELD");
    EXPECT_EQ(Metadata(refused, "field"), "request_id");
  }
}

TEST_F(BadInputTest, AbsurdTimeoutsAreRefused) {
  const int64_t kMax = std::numeric_limits<int64_t>::max(), kMin = std::numeric_limits<int64_t>::min();
  const std::pair<int64_t, int32_t> kTimeouts[] = {{0, 0},
                                                   {0, 999999},
                                                   {-1, 0},
                                                   {0, -1},
                                                   {24 * 3600, 1},
                                                   {365 * 86400, 0},
                                                   {kMax, 0},
                                                   {kMin, 0},
                                                   {1, 1000000000},
                                                   {1, -1000000000},
                                                   {kMax, 999999999},
                                                   {kMin, -999999999},
                                                   {0, std::numeric_limits<int32_t>::max()}};
  for (const auto& timeout : kTimeouts) {
    v1::CreateGlobalRequest create = CreateOf("test-g", {});
    create.mutable_timeout()->set_seconds(timeout.first);
    create.mutable_timeout()->set_nanos(timeout.second);
    const auto refused = stubs_->Create(create);
    EXPECT_EQ(Refusal(refused), "INVALID_TIMEOUT") << timeout.first << "s " << timeout.second << "ns";
    EXPECT_EQ(Metadata(refused, "max"), "24h");
  }
  EXPECT_EQ(Refusal(stubs_->Get("test-g")), "GLOBAL_NOT_FOUND");
  v1::CreateGlobalRequest longest = CreateOf("test-g", {}, absl::Hours(24));
  EXPECT_TRUE(stubs_->Create(longest).ok());
}

TEST_F(BadInputTest, TooManyBranches) {
  const auto numbered = [](int count) {
    std::vector<std::string> ids;
    for (int i = 0; i < count; ++i) ids.push_back(absl::StrCat("b", i));
    return ids;
  };
  const auto refused = stubs_->Create(CreateOf("test-g", numbered(10000)));
  EXPECT_EQ(Refusal(refused), "TOO_MANY_BRANCHES");
  EXPECT_EQ(Metadata(refused, "limit"), "1000");
  EXPECT_EQ(Metadata(refused, "branches"), "10000");
  EXPECT_EQ(Refusal(stubs_->Get("test-g")), "GLOBAL_NOT_FOUND");

  // As many as are allowed go all the way.
  const std::vector<std::string> thousand = numbered(1000);
  Begin("test-g", thousand);
  v1::CreateBranchesRequest add;
  add.set_gtrid("test-g");
  add.add_branches()->set_resource("db");
  EXPECT_EQ(Refusal(stubs_->AddBranches(add)), "TOO_MANY_BRANCHES");
  EXPECT_EQ(Refusal(stubs_->Prepared(VotesOf("test-g", numbered(1001)))), "TOO_MANY_ITEMS");
  v1::FinalizeRequest finalize = FinalizeOf("test-g", v1::DECISION_COMMIT);
  *finalize.mutable_votes() = VotesOf("test-g", numbered(1001)).votes();
  EXPECT_EQ(Refusal(stubs_->Finalize(finalize)), "TOO_MANY_ITEMS");
  // None of them counts: the answer names the first 20 of the missing ones.
  const auto missing = stubs_->Finalize(FinalizeOf("test-g", v1::DECISION_COMMIT));
  EXPECT_EQ(Metadata(missing, "missing_count"), "1000");
  const std::vector<std::string> named = absl::StrSplit(Metadata(missing, "missing"), ',');
  EXPECT_EQ(named.size(), 20u);
  *finalize.mutable_votes() = VotesOf("test-g", thousand).votes();
  ASSERT_TRUE(stubs_->Finalize(finalize).ok());
  EXPECT_EQ(Refusal(stubs_->Completed(CompletionsOf("test-g", numbered(1001)))), "TOO_MANY_ITEMS");
  EXPECT_EQ(Refusal(stubs_->Completed({})), "INVALID_FIELD");
  ASSERT_TRUE(stubs_->Completed(CompletionsOf("test-g", thousand)).ok());
  EXPECT_EQ(stubs_->Get("test-g")->outcome(), v1::OUTCOME_COMMITTED);
}

TEST_F(BadInputTest, AMessageOf100MegabytesIsRefusedByTheTransport) {
  const auto rss_kib = [this] {
    std::ifstream status(absl::StrCat("/proc/", daemon_->pid(), "/status"));
    int64_t kib = 0;
    for (std::string line; std::getline(status, line);) {
      const std::vector<std::string> words = absl::StrSplit(line, absl::ByAnyChar(": \t"), absl::SkipEmpty());
      if (words.size() >= 2 && words[0] == "VmRSS" && !absl::SimpleAtoi(words[1], &kib)) return int64_t{-1};
    }
    return kib;
  };
  // gRPC reads a message to its end before it looks at its size, so one costs its size for a moment; but they do not
  // pile up: after 1 GB of them the coordinator holds no more than it may hold for one or two.
  for (int i = 0; i < 10; ++i) {
    const auto refused = stubs_->Get(std::string(100 << 20, 'x'));
    EXPECT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
    EXPECT_EQ(ReasonOf(refused.status()), absl::nullopt);
  }
  const int64_t kib = rss_kib();
  ASSERT_GT(kib, 0);
  if (!kSanitized) {
    EXPECT_LT(kib, 400 << 10);
  }
}

TEST_F(BadInputTest, UnknownEnumValuesAreRefused) {
  Begin("test-g", {"a"});
  const auto expect_field = [this](const auto& result, const std::string& field) {
    EXPECT_EQ(Refusal(result), "INVALID_FIELD") << field;
    EXPECT_EQ(Metadata(result, "field"), field);
  };
  v1::PreparedRequest votes = VotesOf("test-g", {"a"}, static_cast<v1::VoteKind>(99));
  expect_field(stubs_->Prepared(votes), "votes.kind");
  votes.mutable_votes(0)->set_kind(v1::VOTE_KIND_UNSPECIFIED);
  expect_field(stubs_->Prepared(votes), "votes.kind");
  expect_field(stubs_->Prepared(VotesOf("test-g", {"a"}, v1::VOTE_KIND_PREPARED, static_cast<v1::Wait>(99))), "wait");
  expect_field(stubs_->Finalize(FinalizeOf("test-g", v1::DECISION_COMMIT, static_cast<v1::Wait>(-1))), "wait");
  expect_field(stubs_->Finalize(FinalizeOf("test-g", static_cast<v1::Decision>(99))), "decision");
  expect_field(stubs_->Finalize(FinalizeOf("test-g", v1::DECISION_UNSPECIFIED)), "decision");
  v1::CreateGlobalRequest create = CreateOf("test-h", {});
  create.set_policy(static_cast<v1::DecisionPolicy>(99));
  expect_field(stubs_->Create(create), "policy");
  v1::ListGlobalsRequest list;
  list.add_states(static_cast<v1::Global::State>(99));
  expect_field(stubs_->List(list), "states");
  list.set_states(0, v1::Global::STATE_UNSPECIFIED);
  expect_field(stubs_->List(list), "states");
  const absl::Status completion = Complete("test-g", "a", static_cast<v1::Completion::Result>(99));
  EXPECT_EQ(ReasonName(completion), "INVALID_FIELD");
  EXPECT_EQ(Stored("test-g").revision(), 1);
}

TEST_F(BadInputTest, FieldsThatDoNotFitAreRefused) {
  Begin("test-g", {"a"});
  v1::CreateGlobalRequest create = CreateOf("test-h", {});
  create.set_policy(v1::DECISION_POLICY_WHEN_ALL_PREPARED);
  EXPECT_EQ(Metadata(stubs_->Create(create), "field"), "expected_branches");
  for (const int expected : {-1, 1001, std::numeric_limits<int>::max()}) {
    create.set_expected_branches(expected);
    EXPECT_EQ(Metadata(stubs_->Create(create), "field"), "expected_branches");
  }
  v1::PreparedRequest votes = VotesOf("test-g", {"a"});
  votes.mutable_votes(0)->set_rolled_back(true);
  EXPECT_EQ(Refusal(stubs_->Prepared(votes)), "INVALID_FIELD");
  votes = VotesOf("test-g", {"a"}, v1::VOTE_KIND_FAILED);
  votes.mutable_votes(0)->mutable_failure()->set_sqlstate("TOOLONG");
  EXPECT_EQ(Refusal(stubs_->Prepared(votes)), "INVALID_FIELD");
  v1::FinalizeRequest finalize = FinalizeOf("test-g", v1::DECISION_ROLLBACK);
  finalize.set_reason(std::string(1001, 'r'));
  EXPECT_EQ(Metadata(stubs_->Finalize(finalize), "field"), "reason");
  v1::CreateBranchesRequest add;
  add.set_gtrid("test-g");
  EXPECT_EQ(Metadata(stubs_->AddBranches(add), "field"), "branches");
  add.add_branches()->set_resource("nowhere");
  EXPECT_EQ(Refusal(stubs_->AddBranches(add)), "RESOURCE_NOT_FOUND");
  add.mutable_branches(0)->set_resource("\x1b[2J");
  EXPECT_THAT(Words(stubs_->AddBranches(add)), Not(HasSubstr("\x1b")));
  EXPECT_EQ(Stored("test-g").revision(), 1);
}

// A reason or failure text is cut, and no half character is stored: nobody could read such a record again.
TEST_F(BadInputTest, LongTextsInManyLanguagesSurviveARestart) {
  Begin("test-g", {"a"});
  v1::PreparedRequest votes = VotesOf("test-g", {"a"}, v1::VOTE_KIND_FAILED);
  votes.mutable_votes(0)->mutable_failure()->set_message(std::string(999, 'x') + std::string("üüü"));
  ASSERT_TRUE(stubs_->Prepared(votes).ok());
  Begin("test-h", {"a"});
  v1::FinalizeRequest finalize = FinalizeOf("test-h", v1::DECISION_ROLLBACK);
  for (int i = 0; i < 500; ++i) finalize.mutable_reason()->append("ü");
  ASSERT_TRUE(stubs_->Finalize(finalize).ok());
  ASSERT_TRUE(daemon_->Restart().ok()) << daemon_->OutputTail();
  Connect();
  EXPECT_EQ(Stored("test-g").branches(0).failure().message(), std::string(999, 'x'));
  // The longest refusal there is fits into the trailers of a call.
  const auto refused = stubs_->Finalize(FinalizeOf("test-h", v1::DECISION_COMMIT));
  EXPECT_EQ(Refusal(refused), "GLOBAL_ROLLED_BACK");
  EXPECT_EQ(Metadata(refused, "detail"), finalize.reason());
}

TEST_F(BadInputTest, PageSizesAndTokens) {
  for (int i = 0; i < 5; ++i) Begin(absl::StrCat("test-g", i), {});
  v1::ListGlobalsRequest list;
  list.set_page_size(-1);
  EXPECT_EQ(Refusal(stubs_->List(list)), "INVALID_PAGE_SIZE");
  list.set_page_size(std::numeric_limits<int>::max());
  EXPECT_EQ(stubs_->List(list)->globals_size(), 5);
  list.set_page_size(2);
  const auto page = stubs_->List(list);
  ASSERT_TRUE(page.ok());
  ASSERT_FALSE(page->next_page_token().empty());
  for (const std::string& token :
       {std::string("garbage"), std::string("0"), std::string("-1"), std::string("a\0b", 3), std::string(1 << 20, 'x'),
        page->next_page_token() + "x", page->next_page_token().substr(1)}) {
    list.set_page_token(token);
    EXPECT_EQ(Refusal(stubs_->List(list)), "INVALID_PAGE_TOKEN") << token.substr(0, 40);
  }
  list.set_page_token(page->next_page_token());
  EXPECT_EQ(stubs_->List(list)->globals_size(), 2);
  list.add_states(v1::Global::STATE_ACTIVE);  // A token is for the filter it was made with.
  EXPECT_EQ(Refusal(stubs_->List(list)), "INVALID_PAGE_TOKEN");
  v1::ListResourcesRequest resources;
  resources.set_page_size(-1);
  EXPECT_EQ(Refusal(stubs_->Call(stubs_->resources(), &v1::ResourceService::StubInterface::ListResources, resources)),
            "INVALID_PAGE_SIZE");
}

TEST_F(BadInputTest, BadResourcesAreRefusedAndTheRegistryStays) {
  v1::RegisterResourceRequest good;
  good.set_allow_unreachable(true);
  v1::Resource* resource = good.mutable_resource();
  resource->set_name("other");
  resource->set_engine(v1::Resource::ENGINE_MARIADB);
  resource->set_address("127.0.0.1:1");
  resource->set_user("u");
  ASSERT_TRUE(stubs_->Register(good).ok());
  const auto expect_invalid = [&](const std::string& field, const std::function<void(v1::Resource*)>& spoil) {
    v1::RegisterResourceRequest bad = good;
    bad.set_replace(true);
    spoil(bad.mutable_resource());
    const auto refused = stubs_->Register(bad);
    EXPECT_EQ(Refusal(refused), "INVALID_RESOURCE") << field;
    EXPECT_EQ(Metadata(refused, "field"), "resource." + field) << refused.status();
  };
  for (const std::string& id : BadIds()) expect_invalid("name", [&](v1::Resource* r) { r->set_name(id); });
  expect_invalid("name", [](v1::Resource* r) { r->Clear(); });
  expect_invalid("engine", [](v1::Resource* r) { r->set_engine(static_cast<v1::Resource::Engine>(99)); });
  expect_invalid("engine", [](v1::Resource* r) { r->clear_engine(); });
  expect_invalid("user", [](v1::Resource* r) { r->clear_user(); });
  expect_invalid("user", [](v1::Resource* r) { r->set_user(std::string(256, 'u')); });
  expect_invalid("user", [](v1::Resource* r) { r->set_user(std::string("a\0b", 3)); });
  for (const char* address :
       {"", "host", "host:", ":3306", "host:0", "host:65536", "host:33x06", "unix:", "unix:relative"}) {
    expect_invalid("address", [&](v1::Resource* r) { r->set_address(address); });
  }
  expect_invalid("witness", [](v1::Resource* r) { r->set_witness(static_cast<v1::Witness>(99)); });
  for (const char* schema : {"a`b", "a b", "a.b", "a;b", "ü"}) {
    expect_invalid("witness_schema", [&](v1::Resource* r) { r->set_witness_schema(schema); });
  }
  expect_invalid("witness_schema", [](v1::Resource* r) { r->set_witness_schema(std::string(65, 's')); });
  expect_invalid("password_env", [](v1::Resource* r) { r->set_password_env("NOT_SET_ANYWHERE"); });
  for (const char* file : {"/nowhere", "/tmp", "/dev/zero"}) {
    expect_invalid("password_file", [&](v1::Resource* r) { r->set_password_file(file); });
  }
  expect_invalid("password_file", [](v1::Resource* r) {
    r->set_password_env("A");
    r->set_password_file("B");
  });

  v1::RegisterResourceRequest changed = good;
  changed.mutable_resource()->set_user("somebody");
  EXPECT_EQ(Refusal(stubs_->Register(changed)), "RESOURCE_EXISTS");
  EXPECT_EQ(Metadata(stubs_->Register(changed), "field"), "user");
  changed.set_allow_unreachable(false);
  changed.set_replace(true);
  EXPECT_EQ(Refusal(stubs_->Register(changed)), "RESOURCE_UNREACHABLE");
  v1::GetResourceRequest get;
  get.set_name("other");
  const auto stored = stubs_->Call(stubs_->resources(), &v1::ResourceService::StubInterface::GetResource, get);
  ASSERT_TRUE(stored.ok());
  EXPECT_EQ(stored->resource().user(), "u");
}

TEST_F(BadInputTest, AResourceInUseIsNotRemoved) {
  Begin("test-g", {"a"});
  v1::RemoveResourceRequest remove;
  remove.set_name("db");
  const auto call = [&] {
    return stubs_->Call(stubs_->resources(), &v1::ResourceService::StubInterface::RemoveResource, remove);
  };
  EXPECT_EQ(Refusal(call()), "RESOURCE_IN_USE");
  remove.set_name("nobody");
  EXPECT_EQ(Refusal(call()), "RESOURCE_NOT_FOUND");
  remove.set_name("");
  EXPECT_EQ(Refusal(call()), "RESOURCE_NOT_FOUND");
}

// The order of the table in docs/errors.md, where one call has several faults.
TEST_F(BadInputTest, TheReasonThatStandsHigherInTheTableIsAnswered) {
  v1::CreateGlobalRequest create = CreateOf("bad id", std::vector<std::string>(1001, "bad id"), -absl::Seconds(1));
  EXPECT_EQ(Refusal(stubs_->Create(create)), "INVALID_GTRID");
  create.set_gtrid("test-g");
  EXPECT_EQ(Refusal(stubs_->Create(create)), "INVALID_TIMEOUT");
  create.clear_timeout();
  EXPECT_EQ(Refusal(stubs_->Create(create)), "TOO_MANY_BRANCHES");
  create.mutable_branches()->DeleteSubrange(0, 500);
  create.mutable_branches(0)->set_resource("nowhere");
  EXPECT_EQ(Refusal(stubs_->Create(create)), "INVALID_BQUAL");
  v1::CreateBranchesRequest add;
  add.set_gtrid("test-nobody");
  add.add_branches()->set_resource("nowhere");
  EXPECT_EQ(Refusal(stubs_->AddBranches(add)), "RESOURCE_NOT_FOUND");
  EXPECT_EQ(Refusal(stubs_->Prepared(VotesOf("bad id", std::vector<std::string>(1001, "bad id")))), "INVALID_GTRID");
  EXPECT_EQ(Refusal(stubs_->Prepared(VotesOf("test-nobody", std::vector<std::string>(1001, "bad id")))),
            "TOO_MANY_ITEMS");
  EXPECT_EQ(Refusal(stubs_->Prepared(VotesOf("test-nobody", {"bad id"}))), "INVALID_BQUAL");
  Begin("test-g", {"a"});
  ASSERT_TRUE(stubs_->Finalize(FinalizeOf("test-g", v1::DECISION_ROLLBACK)).ok());
  v1::FinalizeRequest finalize = FinalizeOf("test-g", v1::DECISION_COMMIT);
  *finalize.mutable_votes() = VotesOf("test-g", {"missing"}).votes();
  EXPECT_EQ(Refusal(stubs_->Finalize(finalize)), "GLOBAL_ROLLED_BACK");
}

class OpenLimitTest : public DaemonTest {};

TEST_F(OpenLimitTest, TooManyOpenGlobalsAreRefusedUntilOneEnds) {
  Assentd::Options options;
  options.extra = {"--max-open-globals=3"};
  StartDaemon(options);
  for (const char* gtrid : {"test-a", "test-b", "test-c"}) ASSERT_TRUE(stubs_->Create(CreateOf(gtrid, {})).ok());
  const auto refused = stubs_->Create(CreateOf("test-d", {}));
  EXPECT_EQ(ReasonName(refused.status()), "TOO_MANY_OPEN_GLOBALS");
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status()));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--max-open-globals"));
  // The open ones go on, and so does looking.
  EXPECT_TRUE(stubs_->Create(CreateOf("test-a", {})).ok());
  EXPECT_EQ(stubs_->List({})->globals_size(), 3);
  ASSERT_TRUE(stubs_->Finalize(FinalizeOf("test-a", v1::DECISION_COMMIT)).ok());
  EXPECT_TRUE(stubs_->Create(CreateOf("test-d", {})).ok());
  ASSERT_TRUE(stubs_->Finalize(FinalizeOf("test-b", v1::DECISION_ROLLBACK)).ok());
  ExpectNormalTransaction();
}

}  // namespace
}  // namespace assent
