#include "base/xid.h"

#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

TEST(XidTest, IdsAreOneTo64BytesOfASmallAlphabet) {
  EXPECT_TRUE(IsValidId("a"));
  EXPECT_TRUE(IsValidId("AZaz09._:-"));
  EXPECT_TRUE(IsValidId(std::string(64, 'x')));
  EXPECT_FALSE(IsValidId(""));
  EXPECT_FALSE(IsValidId(std::string(65, 'x')));
  int valid = 0;
  for (int byte = 0; byte < 256; ++byte) valid += IsValidId(std::string(1, static_cast<char>(byte)));
  EXPECT_EQ(valid, 26 + 26 + 10 + 4);
}

TEST(XidTest, RefusalsSayWhatIsWrongWithoutRepeatingBytes) {
  const absl::Status quoted = ValidateGtrid("ab'; DROP TABLE x");
  EXPECT_EQ(ReasonOf(quoted), Reason::INVALID_GTRID);
  EXPECT_THAT(std::string(quoted.message()), HasSubstr("byte 0x27 at position 2"));
  EXPECT_THAT(std::string(quoted.message()), Not(HasSubstr("DROP")));
  const absl::Status nul = ValidateBqual(absl::string_view("a\0b", 3));
  EXPECT_EQ(ReasonOf(nul), Reason::INVALID_BQUAL);
  EXPECT_THAT(std::string(nul.message()), HasSubstr("byte 0x00 at position 1"));
  EXPECT_THAT(std::string(ValidateGtrid(std::string(65, 'x')).message()), HasSubstr("has 65 bytes"));
  EXPECT_THAT(std::string(ValidateGtrid("").message()), HasSubstr("is empty"));
  EXPECT_TRUE(ValidateGtrid("g").ok());
}

TEST(XidTest, ClustersLeaveRoomForTheUlidAndHaveNoDash) {
  EXPECT_TRUE(IsValidCluster(std::string(32, 'c')));
  EXPECT_FALSE(IsValidCluster(std::string(33, 'c')));
  EXPECT_FALSE(IsValidCluster("a-b"));
  EXPECT_FALSE(IsValidCluster(""));
  EXPECT_TRUE(IsValidId(NewGtrid(std::string(32, 'c'), absl::UnixEpoch())));
}

TEST(XidTest, SqlLiteralIsHexAndTheFormatId) {
  EXPECT_EQ(XidSqlLiteral({"g1", "b-2"}), "X'6731',X'622d32',1095978580");
  EXPECT_LT(kFormatId, int64_t{2147483648});  // MariaDB's limit.
}

TEST(XidTest, GtridsTellTheirBirthTimeAndSortByIt) {
  // ULID of 1469918176385 ms, from the ULID specification's example.
  EXPECT_THAT(NewGtrid("c", absl::FromUnixMillis(1469918176385)), MatchesRegex("c-01ARYZ6S41[0-9A-HJKMNP-TV-Z]{16}"));
  EXPECT_THAT(NewGtrid("c", absl::UnixEpoch()), StartsWith("c-0000000000"));
  EXPECT_THAT(NewGtrid("c", absl::FromUnixMillis(-5)), StartsWith("c-0000000000"));
  std::string last;
  for (int64_t ms = 1; ms < int64_t{1} << 47; ms *= 3) {
    const std::string gtrid = NewGtrid("c", absl::FromUnixMillis(ms));
    EXPECT_LT(last, gtrid) << ms;
    last = gtrid;
  }
}

TEST(XidTest, NoGtridIsMadeTwiceByThreads) {
  constexpr int kThreads = 4, kEach = 5000;
  std::vector<std::vector<std::string>> made(kThreads);
  std::vector<std::thread> threads;
  for (auto& mine : made) {
    threads.emplace_back([&mine] {
      for (int i = 0; i < kEach; ++i) mine.push_back(NewGtrid("c", absl::UnixEpoch()));
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::string> all;
  for (const auto& mine : made) all.insert(mine.begin(), mine.end());
  EXPECT_EQ(all.size(), static_cast<size_t>(kThreads) * kEach);
}

TEST(XidTest, AForkedChildDoesNotRepeatItsParentsIds) {
  NewGtrid("c", absl::UnixEpoch());  // Fills the pool that the child inherits.
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const pid_t child = fork();
  if (child == 0) {
    const std::string id = NewGtrid("c", absl::UnixEpoch());
    _exit(write(pipe_fds[1], id.data(), id.size()) == static_cast<ssize_t>(id.size()) ? 0 : 1);
  }
  const std::string mine = NewGtrid("c", absl::UnixEpoch());
  char theirs[64] = {};
  ASSERT_EQ(read(pipe_fds[0], theirs, sizeof(theirs)), static_cast<ssize_t>(mine.size()));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_NE(mine, theirs);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

TEST(XidTest, RequestIdsAreRandomUuids) {
  // gtest's regular expressions count repetitions.
  EXPECT_THAT(NewRequestId(), MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  EXPECT_NE(NewRequestId(), NewRequestId());
}

TEST(XidTest, TheBirthOfAGtridCanBeRead) {
  const absl::Time now = absl::FromUnixMillis(1700000000123);
  EXPECT_EQ(BirthOf(NewGtrid("shop", now)), now);
  EXPECT_EQ(BirthOf(NewGtrid("a.b:c", absl::UnixEpoch())), absl::UnixEpoch());
  for (const char* const other : {"", "shop", "shop-", "shop-order-1", "shop-01M86S9KANZDT6YAR2P7H8632",
                                  "shop-01M86S9KANZDT6YAR2P7H8632U", "shop-81M86S9KANZDT6YAR2P7H8632R"}) {
    EXPECT_EQ(BirthOf(other), absl::nullopt) << other;
  }
}

}  // namespace
}  // namespace assent
