#include "resource_manager/branch_case.h"

#include "absl/time/time.h"
#include "base/timestamp.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1700000000);

v1::Session SessionOf(const std::string& server, absl::Time start) {
  v1::Session session;
  session.set_server(server);
  session.set_connection_id(7);
  SetTime(start, session.mutable_server_start_time());
  return session;
}

TEST(SessionLifeTest, WhatIsGoneAndWhatNobodyCanTell) {
  const ServerIdentity identity{"db:3306", "10.11", kStart};
  const struct {
    const char* server;
    absl::Duration after;
    SessionLife life;
  } kCases[] = {
      {"db:3306", absl::ZeroDuration(), SessionLife::kThis},
      {"db:3306", absl::Seconds(2), SessionLife::kThis},
      {"db:3306", -absl::Seconds(2), SessionLife::kThis},
      {"db:3306", -absl::Seconds(3), SessionLife::kAnother},
      {"db:3306", -absl::Hours(100000), SessionLife::kAnother},
      {"other:3306", absl::ZeroDuration(), SessionLife::kAnother},
      // The clock of the server was set back, before this look or when the session was made.
      {"db:3306", absl::Seconds(3), SessionLife::kUnclear},
      {"db:3306", -absl::Hours(5000000), SessionLife::kUnclear},
  };
  for (const auto& one : kCases) {
    EXPECT_EQ(LifeOf(SessionOf(one.server, kStart + one.after), identity), one.life) << one.server << one.after;
  }
  const ServerIdentity rubbish{"db:3306", "10.11", absl::FromUnixSeconds(-9000000000)};
  EXPECT_EQ(LifeOf(SessionOf("db:3306", kStart), rubbish), SessionLife::kUnclear);
}

}  // namespace
}  // namespace assent
