#include "base/db_error.h"

#include "base/errors.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

TEST(DbErrorTest, WhatLosesAConnection) {
  for (int code : {kConnectionLostCode, 2002, 2003, 2006, 2013, 2014, 2026, 2027, 2055, 5001, 1053, 1152, 1153, 1158,
                   1159, 1160, 1161, 1184, 1927}) {
    EXPECT_TRUE(IsConnectionLost(code)) << code;
  }
  for (int code : {0, 1, 1045, 1062, 1151, 1162, 1205, 1317, 1999, 3000, 4999, 5100}) {
    EXPECT_FALSE(IsConnectionLost(code)) << code;
  }
}

TEST(DbErrorTest, Statuses) {
  EXPECT_TRUE(StatusOf(DbError{}, "reading").ok());
  const absl::Status duplicate = StatusOf(DbError{1062, "23000", "Duplicate entry"}, "writing");
  EXPECT_EQ(ReasonOf(duplicate), Reason::DATABASE_ERROR);
  EXPECT_EQ(MetadataOf(duplicate)["error_code"], "1062");
  EXPECT_EQ(MetadataOf(duplicate)["sqlstate"], "23000");
  const absl::Status unique = StatusOf(DbError{0, "23505", "duplicate key"}, "writing");
  EXPECT_EQ(ReasonOf(unique), Reason::DATABASE_ERROR);
  EXPECT_EQ(MetadataOf(unique).count("error_code"), 0u);
  EXPECT_EQ(MetadataOf(unique)["sqlstate"], "23505");
  EXPECT_EQ(ReasonOf(StatusOf(DbError{kConnectionLostCode, "57P01", "terminating"}, "writing")),
            Reason::DATABASE_UNREACHABLE);
  EXPECT_EQ(ReasonOf(StatusOf(DbError{kSessionResetCode, "", "reset"}, "writing")), Reason::SESSION_RESET);
  EXPECT_EQ(ReasonOf(StatusOf(DbError{2013, "HY000", "Lost"}, "writing")), Reason::DATABASE_UNREACHABLE);
}

}  // namespace
}  // namespace assent
