#include "base/deferred.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

namespace assent {
namespace {

TEST(DeferredTest, WithoutAScopeItRunsAtOnce) {
  std::string seen;
  Defer([&] { seen += "a"; });
  EXPECT_EQ(seen, "a");
}

TEST(DeferredTest, RunsInOrderAtTheEndOfTheOutermostScope) {
  std::string seen;
  {
    DeferScope outer;
    Defer([&] { seen += "a"; });
    {
      DeferScope inner;
      Defer([&] { seen += "b"; });
    }
    EXPECT_EQ(seen, "");
    // Another thread has no scope.
    std::thread([&] { Defer([&] { seen += "x"; }); }).join();
    EXPECT_EQ(seen, "x");
  }
  EXPECT_EQ(seen, "xab");
}

TEST(DeferredTest, WhatIsDeferredMeanwhileRunsToo) {
  std::string seen;
  {
    DeferScope scope;
    Defer([&] {
      seen += "a";
      Defer([&] { seen += "c"; });
      seen += "b";
    });
  }
  EXPECT_EQ(seen, "abc");
  Defer([&] { seen += "d"; });
  EXPECT_EQ(seen, "abcd");
}

}  // namespace
}  // namespace assent
