// Instances that share a store: they divide the work by one rule, and what the dead one did goes to the living.
#include "coordinator/presence.h"

#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/grpc_status.h"
#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "gtest/gtest.h"
#include "tests/fixtures/assentd_cluster.h"

namespace assent {
namespace {

constexpr int kResources = 12;

std::vector<Instance> Living(const std::vector<int64_t>& ids) {
  std::vector<Instance> living(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) living[i].key = {ids[i], 7};
  return living;
}

TEST(WhoIsToDoTest, AllAnswerTheSameWhateverTheOrderAndTheEpochs) {
  std::vector<Instance> living = Living({1, 2, 3, 4, 5});
  std::vector<Instance> other = living;
  std::mt19937 random(1);
  for (int i = 0; i < 1000; ++i) {
    const std::string work = absl::StrCat("recovery/db", i);
    std::shuffle(other.begin(), other.end(), random);
    for (Instance& instance : other) instance.key.epoch = i;
    EXPECT_EQ(WhoIsToDo(work, living).id, WhoIsToDo(work, other).id) << work;
  }
}

TEST(WhoIsToDoTest, OnlyTheWorkOfWhoGoesOrComesMoves) {
  const std::vector<Instance> all = Living({1, 2, 3});
  const std::vector<Instance> left = Living({1, 3});
  std::map<int64_t, int> share;
  for (int i = 0; i < 3000; ++i) {
    const std::string work = absl::StrCat("recovery/db", i);
    const int64_t before = WhoIsToDo(work, all).id;
    ++share[before];
    if (before != 2) {
      EXPECT_EQ(WhoIsToDo(work, left).id, before) << work;
    }
  }
  for (const auto& one : share) EXPECT_NEAR(one.second, 1000, 150) << "instance " << one.first;
}

// Whose recovery each resource is, by address; nothing as long as some have nobody.
using Shares = std::map<std::string, std::set<std::string>>;

class PresenceTest : public testing::Test {
 protected:
  void Start(absl::Duration lease, int instances = 3) {
    AssentdCluster::Options options;
    options.lease = lease;
    options.instances = instances;
    auto started = AssentdCluster::Start(std::move(options));
    ASSERT_TRUE(started.ok()) << started.status();
    cluster_ = *std::move(started);
    CoordinatorApi api(cluster_->instance(0).address());
    for (int i = 0; i < kResources; ++i) {
      v1::RegisterResourceRequest request;
      request.mutable_resource()->set_name(absl::StrCat("db", i));
      request.mutable_resource()->set_engine(v1::Resource::ENGINE_MARIADB);
      request.mutable_resource()->set_address("127.0.0.1:1");
      request.mutable_resource()->set_user("nobody");
      request.set_allow_unreachable(true);
      grpc::ClientContext context;
      v1::RegisterResourceResponse response;
      const absl::Status status = FromGrpcStatus(api.resources()->RegisterResource(&context, request, &response));
      ASSERT_TRUE(status.ok()) << status;
    }
  }

  std::vector<v1::Instance> List(int asked) {
    const auto instances = AssentdCluster::List(cluster_->instance(asked));
    EXPECT_TRUE(instances.ok()) << instances.status();
    return instances.ok() ? *instances : std::vector<v1::Instance>();
  }

  Shares SharesSeenBy(int asked) {
    Shares shares;
    for (const v1::Instance& instance : List(asked)) {
      if (instance.alive()) shares[instance.address()] = {instance.resources().begin(), instance.resources().end()};
    }
    return shares;
  }

  // What the rule makes of those that live.
  Shares Expected(int asked) {
    Shares expected;
    std::vector<Instance> living;
    for (const v1::Instance& instance : List(asked)) {
      if (!instance.alive()) continue;
      living.emplace_back();
      living.back().key = {instance.id(), instance.epoch()};
      living.back().address = instance.address();
      expected[instance.address()];
    }
    if (living.empty()) return expected;
    for (int i = 0; i < kResources; ++i) {
      const std::string name = absl::StrCat("db", i);
      const int64_t id = WhoIsToDo(absl::StrCat(kRecoveryOf, name), living).id;
      for (const Instance& instance : living) {
        if (instance.key.id == id) expected[instance.address].insert(name);
      }
    }
    return expected;
  }

  // How long until so many live, and the work is divided as the rule says.
  absl::Duration AwaitShared(int asked, size_t living) {
    const absl::Time began = absl::Now();
    Shares shares;
    while (absl::Now() < began + absl::Seconds(30)) {
      shares = SharesSeenBy(asked);
      if (shares.size() == living && shares == Expected(asked)) return absl::Now() - began;
      absl::SleepFor(absl::Milliseconds(20));
    }
    ADD_FAILURE() << shares.size() << " live";
    return absl::InfiniteDuration();
  }

  int64_t EpochOf(int instance, int asked) {
    for (const v1::Instance& one : List(asked)) {
      if (one.address() == cluster_->instance(instance).address()) return one.epoch();
    }
    return 0;
  }

  std::unique_ptr<AssentdCluster> cluster_;
};

TEST_F(PresenceTest, TheWorkOfOneThatIsKilledGoesToTheOthersAndComesBackWithIt) {
  Start(absl::Seconds(1));
  AwaitShared(0, 3);
  const Shares before = SharesSeenBy(0);
  const std::string killed = cluster_->instance(2).address();
  const int64_t epoch = EpochOf(2, 0);
  cluster_->instance(2).Kill9();
  const absl::Duration took = AwaitShared(0, 2);
  RecordProperty("takeover_ms", static_cast<int>(absl::ToInt64Milliseconds(took)));
  EXPECT_LT(took, absl::Seconds(4)) << "the lease is 1 s";
  for (const auto& share : SharesSeenBy(1)) {
    const std::set<std::string>& had = before.at(share.first);
    EXPECT_TRUE(std::includes(share.second.begin(), share.second.end(), had.begin(), had.end()))
        << "work of the living has moved";
  }
  ASSERT_TRUE(cluster_->instance(2).Restart().ok());
  AwaitShared(1, 3);
  EXPECT_EQ(SharesSeenBy(1), before);
  EXPECT_EQ(EpochOf(2, 1), epoch + 1);
}

TEST_F(PresenceTest, OneThatLeavesInGoodOrderIsNotWaitedFor) {
  Start(absl::Seconds(20), 2);
  AwaitShared(0, 2);
  ASSERT_EQ(*cluster_->instance(1).Terminate(), 0);
  EXPECT_LT(AwaitShared(0, 1), absl::Seconds(6)) << "within a breath, not a lease";
}

TEST_F(PresenceTest, AFrozenOneIsOvertakenAndIsAnotherEpochWhenItWakes) {
  Start(absl::Seconds(1), 2);
  AwaitShared(0, 2);
  const int64_t epoch = EpochOf(1, 0);
  for (int round = 1; round <= 3; ++round) {
    cluster_->instance(1).Signal(SIGSTOP);
    EXPECT_LT(AwaitShared(0, 1), absl::Seconds(4));
    cluster_->instance(1).Signal(SIGCONT);
    AwaitShared(0, 2);
    EXPECT_EQ(EpochOf(1, 0), epoch + round);
  }
  EXPECT_THAT(cluster_->instance(1).Output(), testing::HasSubstr("was declared dead"));
}

TEST_F(PresenceTest, TwoOfOneAddressAreSaid) {
  Start(absl::Seconds(1), 1);
  Assentd::Options options;
  options.UseStore(cluster_->store_server(), "assent");
  options.extra = {"--instance-lease=1s", absl::StrCat("--advertise=", cluster_->instance(0).address())};
  auto second = Assentd::Start(options);
  ASSERT_TRUE(second.ok()) << second.status();
  for (int i = 0; i < 500; ++i) {
    if (absl::StrContains(cluster_->instance(0).Output(), "set `advertise`")) break;
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_THAT(cluster_->instance(0).Output(), testing::HasSubstr("set `advertise`"));
  // They do not fight: who was replaced waits, and longer each time.
  absl::SleepFor(absl::Seconds(4));
  int joins = 0;
  for (const std::string& output : {cluster_->instance(0).Output(), (*second)->Output()}) {
    for (size_t at = 0; (at = output.find(" joined\n", at)) != std::string::npos; ++at) ++joins;
  }
  EXPECT_GE(joins, 2);
  EXPECT_LE(joins, 8);
}

TEST_F(PresenceTest, TheHealthTurnsAlsoWhenNobodyCalls) {
  Start(absl::Seconds(1), 1);
  const auto health = grpc::health::v1::Health::NewStub(
      grpc::CreateChannel(cluster_->instance(0).address(), grpc::InsecureChannelCredentials()));
  const auto await = [&](grpc::health::v1::HealthCheckResponse::ServingStatus wanted) {
    grpc::health::v1::HealthCheckResponse response;
    for (const absl::Time give_up = absl::Now() + absl::Seconds(20); absl::Now() < give_up;) {
      grpc::ClientContext context;
      if (health->Check(&context, grpc::health::v1::HealthCheckRequest(), &response).ok() &&
          response.status() == wanted) {
        return true;
      }
      absl::SleepFor(absl::Milliseconds(50));
    }
    return false;
  };
  using Response = grpc::health::v1::HealthCheckResponse;
  ASSERT_TRUE(await(Response::SERVING));
  cluster_->store_server().Kill9();
  EXPECT_TRUE(await(Response::NOT_SERVING));
  ASSERT_TRUE(cluster_->store_server().Restart().ok());
  EXPECT_TRUE(await(Response::SERVING));
}

TEST_F(PresenceTest, AllJoinAgainAfterTheStoreWasAwayForLongerThanTheirLeases) {
  Start(absl::Seconds(1));
  AwaitShared(0, 3);
  cluster_->store_server().Kill9();
  absl::SleepFor(absl::Seconds(2));
  ASSERT_TRUE(cluster_->store_server().Restart().ok());
  const absl::Time back = absl::Now();
  // Until the first of them is there again nobody can be asked.
  while (!AssentdCluster::List(cluster_->instance(0)).ok() && absl::Now() < back + absl::Seconds(30)) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  AwaitShared(0, 3);
  EXPECT_LT(absl::Now() - back, absl::Seconds(8));
}

}  // namespace
}  // namespace assent
