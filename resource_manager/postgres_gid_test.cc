#include "resource_manager/postgres_gid.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

TEST(PostgresGidTest, ThereAndBack) {
  const Xid longest = {std::string(kMaxIdBytes, 'g'), std::string(kMaxIdBytes, 'b')};
  for (const Xid& xid : {Xid{"shop-1", "b"}, Xid{"a.b_c:d-e", "-"}, longest}) {
    const std::string gid = GidOf(xid);
    EXPECT_LT(gid.size(), 200u);
    const RecoveredXid parsed = ParseGid(gid);
    EXPECT_EQ(parsed.format_id, kFormatId);
    EXPECT_EQ(parsed.gtrid, xid.gtrid);
    EXPECT_EQ(parsed.bqual, xid.bqual);
  }
}

TEST(PostgresGidTest, OthersAreNotOurs) {
  EXPECT_EQ(ParseGid("7/a/b").format_id, 7);  // Another program's, as its format id says.
  const std::string nul = std::string("1095978580/a") + '\0' + "/b";
  for (const std::string& gid :
       {std::string(), std::string("x"), std::string("1095978580"), std::string("1095978580/a"),
        std::string("1095978580/a/"), std::string("1095978580//b"), std::string("1095978580/a/b/c"),
        std::string("+1095978580/a/b"), std::string("01095978580/a/b"), std::string(" 1095978580/a/b"),
        std::string("-1/a/b"), std::string("1095978580/a'/b"), std::string("1095978580/a b/c"), nul,
        std::string("99999999999999999999/a/b"), absl::StrCat("1095978580/", std::string(65, 'g'), "/b")}) {
    const RecoveredXid parsed = ParseGid(gid);
    EXPECT_EQ(parsed.format_id, kNoFormatId) << gid;
    EXPECT_EQ(parsed.gtrid, gid);
    EXPECT_EQ(parsed.bqual, "");
  }
}

TEST(PostgresGidTest, LocksDiffer) {
  std::set<uint32_t> locks;
  for (int i = 0; i < 1000; ++i) locks.insert(BranchLockOf({"shop-1", absl::StrCat("b", i)}));
  EXPECT_EQ(locks.size(), 1000u);
  EXPECT_NE(BranchLockOf({"a", "bc"}), BranchLockOf({"ab", "c"}));
}

}  // namespace
}  // namespace assent
