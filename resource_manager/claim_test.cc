#include "resource_manager/claim.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/test_server.h"

namespace assent {
namespace {

class ClaimTest : public testing::Test {
 protected:
  void SetUp() override {
    MustQuery(admin_.get(), "DROP DATABASE IF EXISTS assent");
    const absl::Status installed = InstallClaims(admin_.get());
    ASSERT_TRUE(installed.ok()) << installed;
  }

  absl::optional<Claim> Read(absl::string_view cluster) {
    const auto claim = ReadClaim(admin_.get(), cluster);
    EXPECT_TRUE(claim.ok()) << claim.status();
    return *claim;
  }
  bool Write(const absl::optional<Claim>& expected, const Claim& claim) {
    const auto written = WriteClaim(admin_.get(), "c", expected, claim);
    EXPECT_TRUE(written.ok()) << written.status();
    return *written;
  }

  const std::unique_ptr<MariaDbSession> admin_ = MustConnect();
};

TEST_F(ClaimTest, IsWrittenOnlyOverWhatIsExpected) {
  EXPECT_FALSE(Read("c"));
  const Claim first{"store-1", 1};
  const Claim second{"store-1", 2};
  const Claim other{"store-2", 1};
  EXPECT_FALSE(Write(first, second)) << "there is none";
  EXPECT_TRUE(Write(absl::nullopt, first));
  EXPECT_FALSE(Write(absl::nullopt, other));
  EXPECT_EQ(Read("c"), first);
  EXPECT_FALSE(Write(other, second));
  EXPECT_FALSE(Write(second, other));
  EXPECT_TRUE(Write(first, second));
  EXPECT_EQ(Read("c"), second);
  EXPECT_TRUE(Write(second, second)) << "again";
  EXPECT_TRUE(Write(second, other));
  EXPECT_EQ(Read("c"), other);
  // One per cluster, by its bytes.
  EXPECT_FALSE(Read("C"));
  EXPECT_FALSE(Read("c "));
  EXPECT_TRUE(*WriteClaim(admin_.get(), "c2", absl::nullopt, first));
  EXPECT_EQ(Read("c"), other);
}

TEST_F(ClaimTest, OfManyThatWantItOneGetsIt) {
  for (int round = 0; round < 20; ++round) {
    const absl::optional<Claim> before = Read("c");
    std::vector<int> won(8, 0);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < won.size(); ++i) {
      threads.emplace_back([&, i] {
        auto session = MustConnect();
        const auto written = WriteClaim(session.get(), "c", before, Claim{absl::StrCat("store-", i), round});
        won[i] = written.ok() && *written ? 1 : 0;
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_THAT(won, testing::UnorderedElementsAre(1, 0, 0, 0, 0, 0, 0, 0));
  }
}

TEST_F(ClaimTest, ATableThatIsMissingHoldsNoClaim) {
  MustQuery(admin_.get(), "DROP TABLE assent.claim");
  EXPECT_FALSE(Read("c"));
  EXPECT_EQ(ReasonOf(WriteClaim(admin_.get(), "c", absl::nullopt, Claim{"s", 1}).status()), Reason::DATABASE_ERROR);
  MustQuery(admin_.get(), "DROP DATABASE assent");
  EXPECT_FALSE(Read("c"));
}

TEST_F(ClaimTest, MissingPrivilegesAndForeignTables) {
  MustQuery(admin_.get(),
            "DROP USER IF EXISTS poor@localhost; CREATE USER poor@localhost IDENTIFIED BY 'p'; GRANT SELECT ON "
            "assent.* TO poor@localhost");
  ConnectOptions options = ConnectOptionsFor(SharedServer());
  options.user = "poor";
  options.password = "p";
  auto poor = MustConnect(options);
  const absl::Status installed = InstallClaims(poor.get());
  EXPECT_EQ(ReasonOf(installed), Reason::RESOURCE_UNFIT);
  EXPECT_EQ(MetadataOf(installed)["grant"], "GRANT SELECT, INSERT, UPDATE, DELETE ON `assent`.* TO 'poor'@'localhost'");
  EXPECT_EQ(ReasonOf(WriteClaim(poor.get(), "c", absl::nullopt, Claim{"s", 1}).status()), Reason::RESOURCE_UNFIT);
  MustQuery(admin_.get(), "ALTER TABLE assent.claim COMMENT = 'something else'");
  EXPECT_EQ(ReasonOf(InstallClaims(admin_.get())), Reason::RESOURCE_UNFIT);
}

}  // namespace
}  // namespace assent
