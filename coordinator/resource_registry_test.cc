// The registries of two instances over one store.
#include "coordinator/resource_registry.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "gtest/gtest.h"
#include "store/testing/mariadb_test_util.h"

namespace assent {
namespace {

class ResourceRegistryTest : public testing::Test {
 protected:
  ResourceRegistryTest()
      : options_(StoreOptions(SharedStoreServer())),
        one_store_(MustOpenStore(options_)),
        other_store_(MustOpenStore(options_)) {
    EXPECT_TRUE(one_.Load().ok());
    EXPECT_TRUE(other_.Load().ok());
  }

  static v1::Resource Make(ResourceRegistry* registry, const std::string& name, const std::string& address) {
    v1::Resource resource;
    resource.set_name(name);
    resource.set_engine(v1::Resource::ENGINE_MARIADB);
    resource.set_user("assent");
    resource.set_address(address);
    EXPECT_TRUE(registry->Validate(/*replace=*/true, &resource).ok());
    return resource;
  }
  v1::Resource Stored(const std::string& name) {
    const absl::StatusOr<std::vector<v1::Resource>> all = one_store_->ReadResources();
    if (!all.ok()) {
      ADD_FAILURE() << all.status();
      return v1::Resource();
    }
    for (const v1::Resource& resource : *all) {
      if (resource.name() == name) return resource;
    }
    ADD_FAILURE() << name;
    return v1::Resource();
  }

  const MariaDbOptions options_;
  const std::unique_ptr<MariaDbStore> one_store_, other_store_;
  ResourceRegistry one_{one_store_.get(), Clock::Real()};
  ResourceRegistry other_{other_store_.get(), Clock::Real()};
};

TEST_F(ResourceRegistryTest, WhatAnotherInstanceHasRegisteredIsNotOverwritten) {
  ASSERT_TRUE(one_.Put(false, Make(&one_, "orders", "db1:1")).ok());
  EXPECT_EQ(ReasonOf(other_.Put(false, Make(&other_, "orders", "db2:1")).status()), Reason::RESOURCE_EXISTS);
  EXPECT_EQ(Stored("orders").address(), "db1:1");
  EXPECT_EQ((*other_.Find("orders"))->address(), "db1:1") << "it has learned of it";
  const absl::StatusOr<ResourcePtr> same = other_.Put(false, Make(&other_, "orders", "db1:1"));
  ASSERT_TRUE(same.ok()) << same.status();
  ASSERT_TRUE(other_.Put(true, Make(&other_, "orders", "db2:1")).ok());
  ASSERT_TRUE(one_.Put(true, Make(&one_, "orders", "db3:1")).ok()) << "over what it did not know";
  EXPECT_EQ(Stored("orders").address(), "db3:1");
  EXPECT_EQ(Stored("orders").create_time().seconds(), (*same)->create_time().seconds());
}

TEST_F(ResourceRegistryTest, OfTwoWhoRegisterAtOnceOneIsRefused) {
  for (int i = 0; i < 50; ++i) {
    const std::string name = absl::StrCat("r", i);
    absl::Status one, other;
    std::thread thread([&] { one = one_.Put(false, Make(&one_, name, "db1:1")).status(); });
    other = other_.Put(false, Make(&other_, name, "db2:1")).status();
    thread.join();
    ASSERT_NE(one.ok(), other.ok()) << one << " " << other;
    EXPECT_EQ(ReasonOf(one.ok() ? other : one), Reason::RESOURCE_EXISTS);
    EXPECT_EQ(Stored(name).address(), one.ok() ? "db1:1" : "db2:1");
  }
}

TEST_F(ResourceRegistryTest, ANoteDoesNotUndoAnotherInstancesReplacement) {
  ASSERT_TRUE(one_.Put(false, Make(&one_, "orders", "db:1")).ok());
  for (int i = 2; i < 60; ++i) {
    ASSERT_TRUE(one_.Refresh().ok());
    const ResourcePtr before = *one_.Find("orders");
    v1::Resource known = *before;
    known.set_server("server");
    known.set_epoch(i);
    absl::Status noted;
    std::thread thread([&] { noted = one_.NoteServer(*before, known); });
    const std::string address = absl::StrCat("db:", i);
    EXPECT_TRUE(other_.Put(true, Make(&other_, "orders", address)).ok());
    thread.join();
    EXPECT_TRUE(noted.ok() || ReasonOf(noted) == Reason::RESOURCE_NOT_FOUND) << noted;
    ASSERT_EQ(Stored("orders").address(), address);
  }
}

TEST_F(ResourceRegistryTest, WhenTheServerWasAcceptedStaysKnown) {
  ASSERT_TRUE(one_.Put(false, Make(&one_, "orders", "db:1")).ok());
  EXPECT_FALSE(Stored("orders").has_accept_time());
  ASSERT_TRUE(one_.Put(true, Make(&one_, "orders", "db:1"), /*accepted=*/true).ok());
  const absl::Time accepted = GetTime(Stored("orders").accept_time());
  EXPECT_LE(accepted, absl::Now());
  ASSERT_TRUE(one_.Put(true, Make(&one_, "orders", "db:2")).ok());
  EXPECT_EQ(GetTime(Stored("orders").accept_time()), accepted);
}

}  // namespace
}  // namespace assent
