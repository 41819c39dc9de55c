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

v1::Resource Registered() {
  v1::Resource resource;
  resource.set_name("orders");
  resource.set_engine(v1::Resource::ENGINE_MARIADB);
  resource.set_address("10.0.0.7:3306");
  resource.set_user("assent");
  resource.set_password_file("/etc/assent/orders");
  resource.set_witness(v1::WITNESS_DISABLED);
  resource.set_witness_schema("assent");
  resource.set_participant_address("db1:3306");
  resource.mutable_lease()->set_seconds(90);
  resource.mutable_lease()->set_nanos(500000000);
  resource.mutable_orphan_age()->set_seconds(120);
  resource.set_kill_after_lease(v1::KILL_AFTER_LEASE_DISABLED);
  return resource;
}

TEST(ResourcesTest, WhatIsNotGivenStaysAsItIsRegistered) {
  v1::Resource registered = Registered();
  Registration nothing;
  nothing.request.mutable_resource()->set_name("orders");
  EXPECT_EQ(Merge(registered, nothing).SerializeAsString(), registered.SerializeAsString());
  registered.set_server("db1:3306");
  registered.set_epoch(4);
  registered.mutable_create_time()->set_seconds(1);
  registered.mutable_update_time()->set_seconds(2);
  EXPECT_EQ(Merge(registered, nothing).SerializeAsString(), Registered().SerializeAsString())
      << "what only the coordinator sets is not sent";
}

TEST(ResourcesTest, WhatIsGivenReplacesAlsoWithNothing) {
  Registration given;
  v1::Resource* resource = given.request.mutable_resource();
  resource->set_address("10.0.0.8:3306");
  resource->set_user("not given, so it does not count");
  resource->mutable_lease()->set_seconds(10);
  resource->set_witness(v1::WITNESS_ENABLED);
  given.given = {"address", "lease", "participant_address", "witness"};
  v1::Resource expected = Registered();
  expected.set_address("10.0.0.8:3306");
  expected.clear_participant_address();
  expected.mutable_lease()->set_seconds(10);
  expected.mutable_lease()->clear_nanos();
  expected.set_witness(v1::WITNESS_ENABLED);
  EXPECT_EQ(Merge(Registered(), given).DebugString(), expected.DebugString());
}

TEST(ResourcesTest, OnePasswordReplacesTheOther) {
  Registration given;
  given.request.mutable_resource()->set_password_env("ORDERS_PASSWORD");
  given.given = {"password_env"};
  EXPECT_EQ(Merge(Registered(), given).password_file(), "");
  EXPECT_EQ(Merge(Registered(), given).password_env(), "ORDERS_PASSWORD");
}

TEST(ResourcesTest, ChangesAreShownAndNothingElse) {
  EXPECT_EQ(RenderChanges(Registered(), Registered()), "Nothing of what was registered has changed.\n");
  v1::Resource now = Registered();
  now.set_epoch(7);
  now.set_address("10.0.0.8:3306");
  now.clear_participant_address();
  now.clear_password_file();
  now.set_password_env("ORDERS_PASSWORD");
  now.set_kill_after_lease(v1::KILL_AFTER_LEASE_ENABLED);
  now.mutable_lease()->set_seconds(30);
  EXPECT_EQ(RenderChanges(Registered(), now),
            "CHANGED       BEFORE                   NOW\n"
            "Address       10.0.0.7:3306            10.0.0.8:3306\n"
            "Participants  db1:3306                 none\n"
            "Password      file /etc/assent/orders  variable ORDERS_PASSWORD\n"
            "Lease         1m30.5s                  30.5s\n"
            "Past lease    sessions are left alone  sessions are killed\n");
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
