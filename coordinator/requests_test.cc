#include "coordinator/requests.h"

#include <algorithm>
#include <limits>

#include "base/clock.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/sqlite_store.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1700000000);

class RequestsTest : public testing::Test {
 protected:
  void SetUp() override {
    SqliteOptions options;
    options.path = dir_.path() + "/store";
    options.cluster = "c";
    auto store = SqliteStore::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    registry_ = std::make_unique<ResourceRegistry>(store_.get(), &clock_);
    limits_.cluster = "c";
  }

  // The report on a one-phase commit of a transaction whose gtrid was handed out `age` ago.
  v1::Completion Report(v1::Completion::Result result, absl::Duration age) {
    v1::Completion report;
    report.set_gtrid(NewGtrid("c", kNow - age));
    report.set_bqual("b1");
    report.set_result(result);
    v1::BranchSpec* const spec = report.mutable_create()->add_branches();
    spec->set_bqual("b1");
    spec->set_resource("db");
    spec->mutable_session()->set_server("db:3306");
    return report;
  }
  absl::StatusOr<Request> Read(const v1::Completion& report) {
    return ToRequest(report, limits_, registry_.get(), kNow, "tester");
  }

  const TempDir dir_ = *TempDir::Create();
  FakeClock clock_{kNow};
  std::unique_ptr<Store> store_;
  std::unique_ptr<ResourceRegistry> registry_;
  RequestLimits limits_;
};

TEST_F(RequestsTest, OnlyWhatIsProvenNeedNotBeTheFirst) {
  EXPECT_TRUE(Read(Report(v1::Completion::RESULT_UNKNOWN, absl::Minutes(1)))->event.must_be_first);
  EXPECT_FALSE(Read(Report(v1::Completion::RESULT_COMMITTED, absl::Minutes(1)))->event.must_be_first);
  v1::FinalizeRequest finalize;
  finalize.set_gtrid(NewGtrid("c", kNow));
  finalize.set_decision(v1::DECISION_ROLLBACK);
  EXPECT_FALSE(ToRequest(finalize, limits_, registry_.get(), kNow, "tester")->event.must_be_first) << "makes none";
  finalize.mutable_create();
  EXPECT_TRUE(ToRequest(finalize, limits_, registry_.get(), kNow, "tester")->event.must_be_first);
}

TEST_F(RequestsTest, GtridsAreBornWhenTheyAreSaidToBe) {
  const auto reserved = Reserve({}, limits_, registry_.get(), kNow);
  ASSERT_TRUE(reserved.ok()) << reserved.status();
  EXPECT_EQ(BirthOf(GtridOfBlock(reserved->prefix(), 0)), kNow);
}

TEST(BirthsTest, AreNowBehindAHorizonThatStaysWhereItIs) {
  Births births;
  EXPECT_EQ(births.Next(kNow, kNow), kNow) << "a new store's";
  EXPECT_EQ(births.Next(kNow + absl::Minutes(1), kNow), kNow + absl::Minutes(1));
}

TEST(BirthsTest, AreNowButNotJustBehindAHorizonThatMoves) {
  Births births;
  EXPECT_EQ(births.Next(kNow, kNow - absl::Hours(1)), kNow);
  EXPECT_EQ(births.Next(kNow, kNow - kBirthMargin), kNow);
  EXPECT_EQ(births.Next(kNow, kNow), kNow + kBirthMargin) << "it has come near";
  EXPECT_EQ(births.Next(kNow, kNow + absl::Hours(72)), kNow + absl::Hours(72) + kBirthMargin);
  // They move on with the clock.
  const absl::Time later = kNow + absl::Hours(71);
  EXPECT_EQ(births.Next(later, kNow + absl::Hours(72)), later + absl::Hours(72) + kBirthMargin);
  const absl::Time past = kNow + absl::Hours(73);
  EXPECT_EQ(births.Next(past, kNow + absl::Hours(72)), past);
}

// A clock was ahead when it was handed out: how old it is, only its participant can tell.
TEST_F(RequestsTest, WhatIsBornInTheFutureIsAsOldAsItSays) {
  v1::Completion report = Report(v1::Completion::RESULT_COMMITTED, -absl::Hours(72));
  SetDuration(absl::Hours(2), report.mutable_create()->mutable_age());
  EXPECT_EQ(Read(report)->event.age, absl::Hours(2));
  SetDuration(absl::Hours(2000), report.mutable_create()->mutable_age());
  EXPECT_LE(Read(report)->event.age, limits_.max_timeout + absl::Hours(1));
  EXPECT_EQ(Read(report)->event.born, absl::InfinitePast()) << "no witness table is known to be older";
  EXPECT_LT(Read(Report(v1::Completion::RESULT_COMMITTED, absl::Minutes(1)))->event.born, kNow);
}

// What has no record here may be committed there.
TEST_F(RequestsTest, AGtridOfAnotherClusterIsRefusedWithoutALookAtTheRecords) {
  for (const std::string gtrid : {"other-01ARZ3NDEKTSV4RRFFQ69G5FAV", "cc-1", "c", "C-1"}) {
    const absl::Status refused = ValidateOwnGtrid(gtrid, "c");
    EXPECT_EQ(ReasonOf(refused), Reason::INVALID_GTRID) << gtrid;
    EXPECT_THAT(std::string(refused.message()),
                testing::AllOf(testing::HasSubstr("is not of this cluster, 'c'"), testing::HasSubstr("ask that one"),
                               testing::Not(testing::HasSubstr("roll"))));
    v1::PreparedRequest vote;
    vote.set_gtrid(gtrid);
    EXPECT_EQ(ReasonOf(ToRequest(vote, limits_, kNow, "tester").status()), Reason::INVALID_GTRID);
    v1::CreateBranchesRequest add;
    add.set_gtrid(gtrid);
    EXPECT_EQ(ReasonOf(ToRequest(add, limits_, registry_.get(), kNow, "tester").status()), Reason::INVALID_GTRID);
  }
  EXPECT_TRUE(ValidateOwnGtrid("c-1", "c").ok());
}

TEST_F(RequestsTest, CreateGoesWithWhatItIsFor) {
  v1::Completion report = Report(v1::Completion::RESULT_ROLLED_BACK, absl::ZeroDuration());
  EXPECT_EQ(ReasonOf(Read(report).status()), Reason::INVALID_FIELD);
  report.clear_create();
  EXPECT_TRUE(Read(report).ok());
  report.set_result(v1::Completion::RESULT_UNKNOWN);
  EXPECT_EQ(ReasonOf(Read(report).status()), Reason::INVALID_FIELD);
  v1::Completion long_id = Report(v1::Completion::RESULT_COMMITTED, absl::ZeroDuration());
  long_id.set_bqual(std::string(64, 'b'));
  EXPECT_EQ(ReasonOf(Read(long_id).status()), Reason::INVALID_BQUAL);
}

TEST_F(RequestsTest, NothingIsMuchOlderThanItsGtrid) {
  for (const int64_t seconds : {int64_t{-5}, int64_t{100000000000000}, std::numeric_limits<int64_t>::max()}) {
    v1::Completion report = Report(v1::Completion::RESULT_COMMITTED, absl::Minutes(1));
    report.mutable_create()->mutable_age()->set_seconds(seconds);
    const absl::StatusOr<Request> request = Read(report);
    ASSERT_TRUE(request.ok()) << request.status();
    EXPECT_GE(request->event.age, absl::ZeroDuration()) << seconds;
    EXPECT_LE(request->event.age, absl::Minutes(10)) << seconds;
  }
}

TEST_F(RequestsTest, ABranchIsWhereItsSessionWas) {
  const absl::StatusOr<Request> request = Read(Report(v1::Completion::RESULT_UNKNOWN, absl::ZeroDuration()));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->event.branches[0].server, "db:3306") << "wherever the resource is, or if it is none";
}

TEST_F(RequestsTest, ATimeoutThatCannotBeIsAReasonNotToCommit) {
  v1::FinalizeRequest finalize;
  finalize.set_gtrid(NewGtrid("c", kNow));
  finalize.set_decision(v1::DECISION_COMMIT);
  SetDuration(absl::Hours(48), finalize.mutable_create()->mutable_timeout());
  const absl::StatusOr<Request> request = ToRequest(finalize, limits_, registry_.get(), kNow, "tester");
  ASSERT_TRUE(request.ok()) << "a refusal would not be the last word: " << request.status();
  EXPECT_EQ(ReasonOf(request->event.problem), Reason::INVALID_TIMEOUT);
}

}  // namespace
}  // namespace assent
