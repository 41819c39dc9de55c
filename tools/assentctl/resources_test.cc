#include "tools/assentctl/resources.h"

#include "base/timestamp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1700000000);

TEST(ResourcesTest, AResourceShowsBothAddressesAndHowItsSessionsAreTreated) {
  v1::Resource resource;
  resource.set_name("orders");
  resource.set_engine(v1::Resource::ENGINE_MARIADB);
  resource.set_address("10.0.0.7:3306");
  resource.set_user("assent");
  resource.set_witness_schema("assent");
  EXPECT_EQ(RenderResource(resource, kNow),
            "Name        orders\n"
            "Engine      mariadb\n"
            "Address     10.0.0.7:3306\n"
            "User        assent\n"
            "Password    none\n"
            "Witness     assent.witness\n"
            "Past lease  sessions are killed\n");
  resource.set_participant_address("db1:3306");
  resource.mutable_lease()->set_seconds(90);
  resource.mutable_orphan_age()->set_seconds(60);
  resource.set_kill_after_lease(v1::KILL_AFTER_LEASE_DISABLED);
  resource.set_server("db1:3306");
  resource.set_epoch(4);
  const std::string text = RenderResource(resource, kNow);
  for (const char* line :
       {"Participants  db1:3306\n", "Lease         1m30s\n", "Past lease    sessions are left alone\n",
        "Orphan age    1m\n", "Server        db1:3306\n", "Epoch         4\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, Not(HasSubstr("killed")));
}

TEST(ResourcesTest, OneErrorIsEnough) {
  Findings findings;
  EXPECT_FALSE(HasError(findings));
  findings.Add()->set_severity(v1::Finding::SEVERITY_WARNING);
  EXPECT_FALSE(HasError(findings));
  findings.Add()->set_severity(v1::Finding::SEVERITY_ERROR);
  EXPECT_TRUE(HasError(findings));
}

}  // namespace
}  // namespace assent
