#include "resource_manager/resource_check.h"

#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/test_server.h"

namespace assent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto kOk = v1::Finding::SEVERITY_OK;
constexpr auto kWarning = v1::Finding::SEVERITY_WARNING;
constexpr auto kError = v1::Finding::SEVERITY_ERROR;

v1::Resource ResourceOf(const PrivateMariaDb& server) {
  v1::Resource resource;
  resource.set_name("r");
  resource.set_engine(v1::Resource::ENGINE_MARIADB);
  resource.set_address(server.tcp_address());
  resource.set_user(server.user());
  return resource;
}

std::vector<std::string> Checks(const std::vector<v1::Finding>& findings) {
  std::vector<std::string> checks;
  for (const v1::Finding& finding : findings) {
    checks.push_back(finding.check());
    // Whatever is not well comes with what to do about it.
    EXPECT_EQ(finding.remedy().empty(), finding.severity() == kOk) << finding.ShortDebugString();
    EXPECT_FALSE(finding.detail().empty());
  }
  return checks;
}

v1::Finding Get(const std::vector<v1::Finding>& findings, const std::string& check) {
  for (const v1::Finding& finding : findings) {
    if (finding.check() == check) return finding;
  }
  ADD_FAILURE() << "no finding " << check;
  return {};
}

TEST(ResourceCheckTest, GoodServerAllInOrder) {
  MustQuery(MustConnect().get(), "DROP DATABASE IF EXISTS assent");
  v1::Resource resource = ResourceOf(SharedServer());
  for (const std::string& address : {SharedServer().tcp_address(), SharedServer().unix_address()}) {
    resource.set_address(address);
    const auto findings = CheckResource(resource, SharedServer().password());
    EXPECT_THAT(Checks(findings),
                ElementsAre("reachable", "server", "galera", "engine", "witness", "xa_recover", "durability"));
    for (const v1::Finding& finding : findings) EXPECT_EQ(finding.severity(), kOk) << finding.ShortDebugString();
    EXPECT_FALSE(IsUnfit(findings));
    EXPECT_FALSE(IsUnreachable(findings));
    EXPECT_THAT(Get(findings, "witness").detail(),
                HasSubstr(address == SharedServer().tcp_address() ? "was created" : "is there"));
  }
}

TEST(ResourceCheckTest, UnreachableIsAFinding) {
  v1::Resource resource = ResourceOf(SharedServer());
  for (const char* address : {"127.0.0.1:1", "unix:/nonexistent", "nonsense", "no-such-host.invalid:3306"}) {
    resource.set_address(address);
    const auto findings = CheckResource(resource, SharedServer().password());
    EXPECT_THAT(Checks(findings), ElementsAre("reachable")) << address;
    EXPECT_TRUE(IsUnreachable(findings));
    EXPECT_TRUE(IsUnfit(findings));
  }
  EXPECT_EQ(ReasonOf(ConnectOptionsOf(ResourceOf(SharedServer()), "").status()), absl::nullopt);
  resource.set_address("nonsense");
  EXPECT_EQ(ReasonOf(ConnectOptionsOf(resource, "").status()), Reason::INVALID_RESOURCE);
}

TEST(ResourceCheckTest, SuspendedServerIsUnreachableInTime) {
  auto started = PrivateMariaDb::Start();
  ASSERT_TRUE(started.ok()) << started.status();
  (*started)->Suspend();
  const absl::Time start = absl::Now();
  EXPECT_TRUE(IsUnreachable(CheckResource(ResourceOf(**started), (*started)->password())));
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

TEST(ResourceCheckTest, WrongPasswordIsNotRepeated) {
  const auto findings = CheckResource(ResourceOf(SharedServer()), "wrong-secret");
  EXPECT_TRUE(IsUnreachable(findings));
  EXPECT_THAT(findings[0].detail(), HasSubstr("1045"));
  for (const v1::Finding& finding : findings) {
    EXPECT_THAT(finding.ShortDebugString(), testing::Not(HasSubstr("wrong-secret")));
  }
}

TEST(ResourceCheckTest, WitnessDisabledBadOrForbidden) {
  v1::Resource resource = ResourceOf(SharedServer());
  resource.set_witness(v1::WITNESS_DISABLED);
  EXPECT_EQ(Get(CheckResource(resource, SharedServer().password()), "witness").severity(), kWarning);
  resource.set_witness(v1::WITNESS_ENABLED);
  resource.set_witness_schema("no;schema");
  EXPECT_EQ(Get(CheckResource(resource, SharedServer().password()), "witness").severity(), kError);

  auto admin = MustConnect();
  MustQuery(admin.get(), "CREATE OR REPLACE USER weak@'127.0.0.1' IDENTIFIED BY 'w'");
  resource.set_witness_schema("other");
  resource.set_user("weak");
  const auto findings = CheckResource(resource, "w");
  EXPECT_TRUE(IsUnfit(findings));
  EXPECT_FALSE(IsUnreachable(findings));
  EXPECT_THAT(Get(findings, "witness").remedy(),
              HasSubstr("GRANT CREATE, ALTER, SELECT, INSERT, UPDATE, DELETE ON `other`.* TO 'weak'@'127.0.0.1'"));
  EXPECT_EQ(Get(findings, "xa_recover").severity(), kOk) << "needs no privilege";
}

TEST(ResourceCheckTest, RealServerWithWeakSettings) {
  PrivateMariaDb::Options options;
  options.extra = {"--innodb-flush-log-at-trx-commit=2", "--log-bin", "--sync-binlog=0",
                   "--default-storage-engine=MyISAM"};
  auto started = PrivateMariaDb::Start(options);
  ASSERT_TRUE(started.ok()) << started.status();
  const auto findings = CheckResource(ResourceOf(**started), (*started)->password());
  EXPECT_FALSE(IsUnfit(findings));
  EXPECT_EQ(Get(findings, "engine").severity(), kWarning);
  const v1::Finding durability = Get(findings, "durability");
  EXPECT_EQ(durability.severity(), kWarning);
  EXPECT_THAT(durability.detail(), HasSubstr("innodb_flush_log_at_trx_commit is 2"));
  EXPECT_THAT(durability.detail(), HasSubstr("sync_binlog is 0"));
}

TEST(JudgeTest, Servers) {
  const auto judge = [](const char* version) {
    ServerFacts facts;
    facts.version = version;
    return JudgeServer(facts).severity();
  };
  for (const char* good :
       {"10.5.1-MariaDB", "10.11.19-MariaDB-0+deb12u1-log", "11.8.9-MariaDB", "12.0.2-MariaDB-ubu"}) {
    EXPECT_EQ(judge(good), kOk) << good;
  }
  for (const char* bad :
       {"10.4.34-MariaDB", "5.5.68-MariaDB", "8.4.0", "9.7.4-commercial", "", "MariaDB", "x.y-MariaDB"}) {
    EXPECT_EQ(judge(bad), kError) << bad;
  }
}

TEST(JudgeTest, GaleraAndEngine) {
  ServerFacts facts;
  EXPECT_EQ(JudgeGalera(facts).severity(), kOk);
  facts.wsrep_on = "OFF";
  EXPECT_EQ(JudgeGalera(facts).severity(), kOk);
  facts.wsrep_on = "ON";
  EXPECT_EQ(JudgeGalera(facts).severity(), kError);
  EXPECT_EQ(JudgeEngine(facts).severity(), kError);
  facts.innodb_support = "DISABLED";
  EXPECT_EQ(JudgeEngine(facts).severity(), kError);
}

TEST(JudgeTest, Durability) {
  ServerFacts facts;
  facts.innodb_flush_log_at_trx_commit = "1";
  facts.log_bin = "OFF";
  facts.sync_binlog = "0";  // Of no interest without a binary log.
  EXPECT_EQ(JudgeDurability(facts).severity(), kOk);
  facts.log_bin = "ON";
  EXPECT_EQ(JudgeDurability(facts).severity(), kWarning);
  facts.sync_binlog = "1";
  EXPECT_EQ(JudgeDurability(facts).severity(), kOk);
  facts.innodb_flush_log_at_trx_commit = "0";
  EXPECT_EQ(JudgeDurability(facts).severity(), kWarning);
}

}  // namespace
}  // namespace assent
