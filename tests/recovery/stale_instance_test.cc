// An instance of the coordinator is stopped in the middle of a recovery; another one overtakes it, and it wakes up: it
// can do no harm.
#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <future>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/grpc_status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fixtures/assentd_cluster.h"
#include "tests/fixtures/private_mariadb.h"
#include "tests/recovery/recovery_rig.h"

namespace assent {
namespace {

constexpr absl::Duration kLease = absl::Seconds(1);
constexpr int kTransactions = 8;

class StaleInstanceTest : public testing::Test {
 protected:
  // Two instances; both resources are registered, and somebody recovers each.
  void SetUp() override {
    auto store = PrivateMariaDb::Start();
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    RecoveryRig::Options options;
    options.coordinator.UseStore(*store_, "assent");
    options.coordinator.extra = {absl::StrCat("--instance-lease=", absl::FormatDuration(kLease)),
                                 "--sweep-interval=500ms"};
    auto rig = RecoveryRig::Start(options);
    ASSERT_TRUE(rig.ok()) << rig.status();
    rig_ = *std::move(rig);
    auto second = Assentd::Start(options.coordinator);
    ASSERT_TRUE(second.ok()) << second.status();
    second_ = *std::move(second);
    ASSERT_TRUE(RecoveryRig::AwaitTrue(
        [&] { return Living() == 2 && !HolderOf("a").empty() && !HolderOf("b").empty() && Settled(); }));
  }

  std::vector<v1::Instance> List(const Assentd& asked) {
    const auto instances = AssentdCluster::List(asked);
    return instances.ok() ? *instances : std::vector<v1::Instance>();
  }
  int Living() {
    int living = 0;
    for (const v1::Instance& instance : List(*second_)) living += instance.alive();
    return living;
  }
  std::string HolderOf(const std::string& resource, const Assentd* asked = nullptr) {
    for (const v1::Instance& instance : List(asked == nullptr ? *second_ : *asked)) {
      if (!instance.alive()) continue;
      for (const std::string& held : instance.resources()) {
        if (held == resource) return instance.address();
      }
    }
    return "";
  }
  // The one that joined later has taken what is its own.
  bool Settled() {
    const std::string a = HolderOf("a");
    const std::string b = HolderOf("b");
    absl::SleepFor(2 * kLease);
    return HolderOf("a") == a && HolderOf("b") == b;
  }
  int64_t EpochOf(const Assentd& instance, const Assentd& asked) {
    for (const v1::Instance& one : List(asked)) {
      if (one.address() == instance.address() && one.alive()) return one.epoch();
    }
    return 0;
  }

  std::unique_ptr<PrivateMariaDb> store_;
  std::unique_ptr<RecoveryRig> rig_;
  std::unique_ptr<Assentd> second_;
};

TEST_F(StaleInstanceTest, FrozenInTheMiddleOfARecoveryOvertakenAndWokenItChangesNothing) {
  // It hangs in a COMMIT at this server when it is stopped.
  const int server = 1;
  const bool first_holds = HolderOf(RecoveryRig::ResourceName(server)) == rig_->coordinator().address();
  Assentd& stale = first_holds ? rig_->coordinator() : *second_;
  Assentd& other = first_holds ? *second_ : rig_->coordinator();
  const int64_t epoch = EpochOf(stale, other);

  std::vector<std::vector<RawBranch>> transactions;
  for (int i = 0; i < kTransactions; ++i) {
    transactions.push_back(rig_->Decided({0, 1}, i % 4 == 3 ? v1::DECISION_ROLLBACK : v1::DECISION_COMMIT));
  }
  const auto backup = rig_->Connect(server);
  ASSERT_TRUE(backup->Query("FLUSH TABLES WITH READ LOCK").ok());
  for (auto& branches : transactions) {
    for (RawBranch& branch : branches) branch.session->Abandon();
  }
  ASSERT_TRUE(RecoveryRig::AwaitTrue([&] {
    return !rig_->Sql(server, "SELECT 1 FROM information_schema.PROCESSLIST WHERE STATE LIKE '%backup lock%'")
                .rows()
                .empty();
  })) << "the recovery has not begun";
  CoordinatorApi late(stale.address());
  EXPECT_FALSE(late.GetGlobal("test-late-0").ok());  // It is connected.
  stale.Signal(SIGSTOP);
  const absl::Time frozen = absl::Now();
  ASSERT_TRUE(RecoveryRig::AwaitTrue(
      [&] { return HolderOf(RecoveryRig::ResourceName(server), &other) == other.address(); }, absl::Seconds(20)));
  const absl::Duration overtaken = absl::Now() - frozen;
  RecordProperty("overtaken_after_ms", static_cast<int>(absl::ToInt64Milliseconds(overtaken)));
  EXPECT_LT(overtaken, kLease + absl::Seconds(3));
  // What the frozen one had sent is done now, and it knows nothing of it.
  ASSERT_TRUE(backup->Query("UNLOCK TABLES").ok());

  CoordinatorApi api(other.address());
  std::vector<std::string> finished;
  for (int i = 0; i < kTransactions; ++i) {
    const std::string& gtrid = transactions[static_cast<size_t>(i)][0].xid.gtrid;
    const auto wanted = i % 4 == 3 ? v1::OUTCOME_ROLLED_BACK : v1::OUTCOME_COMMITTED;
    v1::GetGlobalResponse last;
    ASSERT_TRUE(RecoveryRig::AwaitTrue([&] {
      const auto found = api.GetGlobal(gtrid);
      if (found.ok()) last = *found;
      return last.outcome() == wanted;
    })) << last.DebugString();
    finished.push_back(last.SerializeAsString());
    const int rows = wanted == v1::OUTCOME_COMMITTED ? 2 : 0;
    EXPECT_EQ(rig_->Rows(0, gtrid) + rig_->Rows(1, gtrid), rows);
  }
  EXPECT_EQ(rig_->Prepared(0) + rig_->Prepared(1), 0);

  // While it was away somebody has asked it for new work, which it finds when it wakes.
  std::vector<std::future<absl::Status>> asked;
  for (int i = 0; i < 8; ++i) {
    asked.push_back(std::async(std::launch::async, [&late, i] {
      v1::CreateGlobalRequest request;
      request.set_gtrid(absl::StrCat("test-late-", i));
      grpc::ClientContext context;
      context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
      v1::CreateGlobalResponse response;
      return FromGrpcStatus(late.coordinator()->CreateGlobal(&context, request, &response));
    }));
  }
  absl::SleepFor(absl::Milliseconds(500));
  stale.Signal(SIGCONT);
  ASSERT_TRUE(RecoveryRig::AwaitTrue([&] { return EpochOf(stale, other) == epoch + 1; }, absl::Seconds(20)))
      << "it joins as another epoch";
  for (int i = 0; i < 8; ++i) {
    // Refused, or done under the new epoch; and what is said is what is stored.
    const absl::Status told = asked[static_cast<size_t>(i)].get();
    const auto found = api.GetGlobal(absl::StrCat("test-late-", i));
    EXPECT_EQ(told.ok(), found.ok()) << told << " but " << found.status();
    EXPECT_TRUE(told.ok() || ReasonOf(told) == Reason::INSTANCE_FENCED) << told;
  }
  ASSERT_TRUE(RecoveryRig::AwaitTrue([&] {
    return HolderOf(RecoveryRig::ResourceName(server), &other) == stale.address();
  })) << "its share comes back to it";
  absl::SleepFor(2 * kLease);
  for (int i = 0; i < kTransactions; ++i) {
    const std::string& gtrid = transactions[static_cast<size_t>(i)][0].xid.gtrid;
    for (Assentd* asks : {&stale, &other}) {
      const auto found = CoordinatorApi(asks->address()).GetGlobal(gtrid);
      ASSERT_TRUE(found.ok()) << found.status();
      EXPECT_EQ(found->SerializeAsString(), finished[static_cast<size_t>(i)])
          << "it has written: " << found->DebugString();
    }
  }
  EXPECT_THAT(stale.Output(), testing::HasSubstr("was declared dead"));
  EXPECT_EQ(rig_->Prepared(0) + rig_->Prepared(1), 0);
}

}  // namespace
}  // namespace assent
