// A million finished transactions: what any verb costs does not grow with them. Counted in rows that the server reads,
// and so the same on every machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "store/mariadb_store.h"
#include "store/testing/mariadb_test_util.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

constexpr auto kActive = v1::Global::STATE_ACTIVE;
constexpr auto kCommitted = v1::Global::STATE_COMMITTED;
constexpr int64_t kHistory = 1000000;
constexpr int64_t kFirstEnd = 1600000000;  // The i-th ended i seconds later.

class MariaDbHistoryTest : public testing::Test {
 protected:
  MariaDbHistoryTest()
      : server_(StartStoreServer({"--innodb-buffer-pool-size=512M", "--innodb-log-file-size=256M"})),
        options_(StoreOptions(*server_)),
        store_(MustOpenStore(options_)),
        admin_(*server_, options_) {
    // Five that are open, the oldest of all: whatever walks from that end comes upon them.
    for (int i = 0; i < 5; ++i) Put(absl::StrCat("oldest", i), 1);
    // Each row's record with the row's own gtrid in the place of this one, which is as long.
    const std::string record = MakeGlobal("old-0000000", 5, kCommitted, "", 200)->SerializeAsString();
    admin_.Run("SET unique_checks=0, innodb_lock_wait_timeout=600");
    for (int64_t begin = 1; begin <= kHistory; begin += 100000) {
      admin_.Run(absl::StrCat(
          "INSERT INTO store_globals (gtrid, request_id, revision, state, ended, record) SELECT CONCAT('old-', "
          "LPAD(seq, 7, '0')), CONCAT('r-', seq), 5, ",
          static_cast<int>(kCommitted), ", (", kFirstEnd, " + seq) * 1000000, REPLACE(_binary ", Quote(record),
          ", _binary 'old-0000000', CONCAT('old-', LPAD(seq, 7, '0'))) FROM seq_", begin, "_to_", begin + 99999));
    }
    for (int i = 0; i < 20; ++i) Put(absl::StrCat("young", i), 1);
  }

  void Put(const std::string& gtrid, int64_t revision) {
    ASSERT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal(gtrid, revision, kActive)))), "APPLIED");
  }

  // All the ways in which the server reads a row.
  int64_t Reads() {
    const QueryResult result = admin_.Run("SHOW GLOBAL STATUS LIKE 'Handler_read_%'");
    int64_t sum = 0;
    for (const auto& row : result.rows()) sum += IntOf(row[1]);
    return sum;
  }

  // Rows that the server read for `work`.
  int64_t RowsRead(const std::function<void()>& work) {
    const int64_t first = Reads();
    const int64_t before = Reads();
    const int64_t own = before - first;  // What asking costs.
    work();
    return Reads() - before - own;
  }

  std::unique_ptr<PrivateMariaDb> server_;
  MariaDbOptions options_;
  std::unique_ptr<MariaDbStore> store_;
  Admin admin_;
};

TEST_F(MariaDbHistoryTest, NothingGrowsWithIt) {
  EXPECT_GT(RowsRead([&] { admin_.Run("SELECT SUM(revision) FROM store_globals"); }), kHistory) << "the count counts";

  EXPECT_LT(RowsRead([&] { EXPECT_EQ(store_->ReadOpen("", 1000)->size(), 25u); }), 100);
  EXPECT_LT(RowsRead([&] { EXPECT_EQ(store_->ReadOpen("oldest4", 1000)->size(), 20u); }), 100);
  ListQuery open;
  open.page_size = 10;
  open.states = {kActive};
  for (int page = 0; page < 3; ++page) {
    EXPECT_LT(RowsRead([&] {
                const absl::StatusOr<ListPage> answer = store_->List(open);
                ASSERT_TRUE(answer.ok()) << answer.status();
                EXPECT_EQ(answer->globals.size(), page == 2 ? 5u : 10u);
                open.page_token = answer->next_page_token;
              }),
              100)
        << page;
  }
  ListQuery all;
  all.page_size = 100;
  EXPECT_LT(RowsRead([&] { EXPECT_EQ(store_->List(all)->globals.size(), 100u); }), 500);
  ListQuery rare = all;
  rare.states = {v1::Global::STATE_ROLLED_BACK};
  EXPECT_LT(RowsRead([&] { EXPECT_EQ(store_->List(rare)->globals.size(), 0u); }), 30000) << "bounded, also if rare";
  EXPECT_LT(RowsRead([&] { EXPECT_EQ((*store_->Read("old-0500000"))->revision(), 5); }), 20);
  std::vector<KnownRevision> known;
  for (int i = 0; i < 1000; ++i) known.push_back({absl::StrCat("old-0", 100000 + 777 * i), 5});
  EXPECT_LT(RowsRead([&] { EXPECT_EQ(store_->ReadChanged(known)->size(), 0u); }), 2500);
  EXPECT_LT(RowsRead([&] {
              for (int i = 0; i < 20; ++i) Put(absl::StrCat("young", i), 2);
            }),
            400);
  EXPECT_LT(RowsRead([&] {
              EXPECT_EQ(ToString(SubmitAndWait(store_.get(), To(MakeGlobal("x", 1, kActive, "r-77")))), "CONFLICT");
            }),
            50);
  EXPECT_LT(RowsRead([&] { EXPECT_EQ(store_->Sizes()->open, 25); }), 100);
  admin_.Run("ANALYZE TABLE store_globals");  // The server's estimates are renewed now and then.
  EXPECT_GT(store_->Sizes()->bytes, 100 << 20);
  EXPECT_GT(store_->Sizes()->records, kHistory / 2);

  // Old ones go, a batch at a time, and each batch costs the same.
  for (int batch = 0; batch < 5; ++batch) {
    EXPECT_LT(RowsRead([&] {
                const auto purged = store_->Purge(absl::FromUnixSeconds(kFirstEnd + 4500), 1000);
                ASSERT_TRUE(purged.ok()) << purged.status();
                EXPECT_EQ(purged->size(), batch < 4 ? 1000u : 499u);
              }),
              6000)
        << batch;
  }
  EXPECT_LT(RowsRead([&] { EXPECT_EQ(store_->Purge(absl::FromUnixSeconds(kFirstEnd + 4500), 1000)->size(), 0u); }),
            6000);
  store_.reset();
  EXPECT_LT(RowsRead([&] { store_ = MustOpenStore(options_); }), 500);
  EXPECT_EQ(store_->ReadOpen("", 1000)->size(), 25u);
}

}  // namespace
}  // namespace assent
