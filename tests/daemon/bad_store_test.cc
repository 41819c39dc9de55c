// Store files that cannot be used, against the real assentd: exit code, words, and the file left as it was.
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/xid.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/daemon/daemon_test_base.h"
#include "tests/fixtures/process.h"

namespace assent {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kExitStore = 3;

class BadStoreTest : public DaemonTest {
 protected:
  void SetUp() override {
    absl::StatusOr<TempDir> folder = TempDir::Create("bad-store-");
    ASSERT_TRUE(folder.ok()) << folder.status();
    folder_ = std::make_unique<TempDir>(*std::move(folder));
    path_ = folder_->path() + "/assent.db";
  }

  // A store with one committed transaction in it, closed.
  void MakeStore() {
    Assentd::Options options;
    options.store = path_;
    StartDaemon(options);
    ExpectNormalTransaction();
    ASSERT_EQ(*daemon_->Terminate(), 0);
    daemon_.reset();
  }

  // Starts it and expects that it ends with the store's exit code; answers what it said.
  std::string RefusedStart(Assentd::Options options = {}) {
    if (options.store.empty()) options.store = path_;
    const absl::StatusOr<std::unique_ptr<Assentd>> daemon = Assentd::Start(std::move(options));
    EXPECT_FALSE(daemon.ok());
    const std::string words(daemon.status().message());
    EXPECT_THAT(words, HasSubstr(absl::StrCat("code ", kExitStore, ": ")));
    EXPECT_THAT(words, AllOf(HasSubstr("assentd: "), Not(HasSubstr("until its log can be written"))));
    return words;
  }

  static std::string Bytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream bytes;
    bytes << file.rdbuf();
    return bytes.str();
  }

  void Sql(const std::string& sql) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &db), SQLITE_OK);
    char* error = nullptr;
    EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &error), SQLITE_OK) << error;
    sqlite3_close(db);
  }

  // The store can be used (again), and what was in it is there.
  void ExpectStoreWorks() {
    Assentd::Options options;
    options.store = path_;
    StartDaemon(options);
    ExpectNormalTransaction();
    v1::ListGlobalsRequest all;
    EXPECT_EQ(stubs_->List(all)->globals_size(), 2);
  }

  std::unique_ptr<TempDir> folder_;
  std::string path_;
};

TEST_F(BadStoreTest, AFileThatIsNoDatabaseIsLeftAlone) {
  const std::string text = "Dear diary,\n" + std::string(10000, 'x');
  std::ofstream(path_) << text;
  EXPECT_THAT(RefusedStart(), AllOf(HasSubstr("not a database"), HasSubstr("restore the file from a copy")));
  EXPECT_EQ(Bytes(path_), text);
}

TEST_F(BadStoreTest, ADatabaseOfAnotherProgramIsLeftAlone) {
  Sql("CREATE TABLE cookies (id INTEGER)");
  const std::string before = Bytes(path_);
  EXPECT_THAT(RefusedStart(), HasSubstr("database of another program"));
  EXPECT_EQ(Bytes(path_), before);
}

TEST_F(BadStoreTest, ADamagedStoreIsRefused) {
  MakeStore();
  const std::string whole = Bytes(path_);
  ASSERT_GT(whole.size(), 8192u);
  std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(4096);
  file << std::string(whole.size() - 4096, '\xa5');  // All but the first page.
  file.close();
  EXPECT_THAT(RefusedStart(), HasSubstr("restore the file from a copy"));
  std::ofstream(path_, std::ios::binary | std::ios::trunc) << whole;
  ExpectStoreWorks();
}

TEST_F(BadStoreTest, AStoreCutShortIsRefused) {
  MakeStore();
  const std::string whole = Bytes(path_);
  std::filesystem::resize_file(path_, whole.size() / 2);
  EXPECT_THAT(RefusedStart(), HasSubstr("restore the file from a copy"));
  std::ofstream(path_, std::ios::binary | std::ios::trunc) << whole;
  ExpectStoreWorks();
}

TEST_F(BadStoreTest, ANewerSchemaIsRefusedAndUntouched) {
  MakeStore();
  Sql("PRAGMA user_version = 999");
  const std::string before = Bytes(path_);
  EXPECT_THAT(RefusedStart(), AllOf(HasSubstr("has schema 999"), HasSubstr("run the newer program")));
  EXPECT_EQ(Bytes(path_), before);
  Sql("PRAGMA user_version = 4");
  ExpectStoreWorks();
}

// A clock was days ahead, and is not any more.
TEST_F(BadStoreTest, AHorizonInTheFutureStopsNothing) {
  MakeStore();
  Sql("UPDATE meta SET value = value + 259200000000 WHERE key = 'horizon'");
  ExpectStoreWorks();
  v1::FinalizeRequest whole = FinalizeOf(NewGtrid("test", absl::Now()), v1::DECISION_COMMIT);
  whole.mutable_create();
  EXPECT_EQ(ReasonOf(stubs_->Finalize(whole).status()), Reason::OUTCOME_IN_DOUBT);
  const auto reserved = stubs_->Call(stubs_->coordinator(), &v1::CoordinatorService::StubInterface::ReserveGtrids,
                                     v1::ReserveGtridsRequest());
  ASSERT_TRUE(reserved.ok()) << reserved.status();
  whole.set_gtrid(GtridOfBlock(reserved->prefix(), 0));
  const auto decided = stubs_->Finalize(whole);
  ASSERT_TRUE(decided.ok()) << decided.status();
  EXPECT_EQ(decided->status().decision(), v1::DECISION_COMMIT);
}

TEST_F(BadStoreTest, AnotherClustersStoreIsRefused) {
  MakeStore();
  Assentd::Options options;
  options.cluster = "other";
  EXPECT_THAT(RefusedStart(options), HasSubstr("belongs to the cluster 'test', not to 'other'"));
  ExpectStoreWorks();
}

TEST_F(BadStoreTest, AStoreInUseNamesWhoUsesIt) {
  MakeStore();
  ExpectStoreWorks();
  EXPECT_THAT(RefusedStart(), HasSubstr(absl::StrCat("is in use by process ", daemon_->pid())));
  ExpectNormalTransaction();  // The first one has not noticed.
  // The lock goes with its owner, however that ends.
  daemon_->Kill9();
  daemon_.reset();
  Assentd::Options options;
  options.store = path_;
  StartDaemon(options);
  ExpectNormalTransaction();
}

TEST_F(BadStoreTest, PathsThatAreNoFile) {
  Assentd::Options options;
  options.store = folder_->path();
  EXPECT_THAT(RefusedStart(options), HasSubstr("is not a file"));
  options.store = folder_->path() + "/";
  EXPECT_THAT(RefusedStart(options), HasSubstr("must name a file"));
  options.store = folder_->path() + "/missing/assent.db";
  EXPECT_THAT(RefusedStart(options), AllOf(HasSubstr("No such file"), HasSubstr("create the folder first")));
  options.store = "/dev/null";
  EXPECT_THAT(RefusedStart(options), Not(HasSubstr("serving")));
  const std::string pipe = folder_->path() + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  options.store = pipe;
  EXPECT_THAT(RefusedStart(options), HasSubstr("is not a file"));
}

// Runs assentd with a small file system of its own, mounted where nobody else sees it; inherited by what follows "--".
std::vector<std::string> WithSmallDisk(const std::string& mount_point, const std::string& options) {
  // A user namespace lets anybody mount; root may not need one, but it does no harm.
  return {"/usr/bin/unshare",
          "--mount",
          "--map-root-user",
          "/bin/sh",
          "-c",
          absl::StrCat("mount -t tmpfs -o ", options, " none ", mount_point, " && exec \"$@\""),
          "sh"};
}

// Whether this machine lets us have mount namespaces at all.
bool CanMount(const std::string& folder) {
  std::vector<std::string> argv = WithSmallDisk(folder, "size=1m");
  argv.push_back("/bin/true");
  const absl::StatusOr<int> code = Run(argv, {});
  return code.ok() && *code == 0;
}

TEST_F(BadStoreTest, AReadOnlyFileSystemIsSaid) {
  if (!CanMount(folder_->path())) GTEST_SKIP() << "no mount namespaces here";
  Assentd::Options options;
  options.wrapper = WithSmallDisk(folder_->path(), "ro,size=1m");
  EXPECT_THAT(RefusedStart(options), AllOf(HasSubstr("Read-only file system"), HasSubstr("that it may write")));
}

TEST_F(BadStoreTest, AReadOnlyFileIsSaid) {
  MakeStore();
  if (geteuid() == 0) {
    // Permissions do not stop root; a read-only mount of the folder with the store in it does.
    const std::vector<std::string> wrapper = {
        "/usr/bin/unshare",
        "--mount",
        "--map-root-user",
        "/bin/sh",
        "-c",
        absl::StrCat("mount --bind ", folder_->path(), " ", folder_->path(), " && mount -o remount,bind,ro ",
                     folder_->path(), " && exec \"$@\""),
        "sh"};
    std::vector<std::string> probe = wrapper;
    probe.push_back("/bin/true");
    const absl::StatusOr<int> code = assent::Run(probe, {});
    if (!code.ok() || *code != 0) GTEST_SKIP() << "no mount namespaces here";
    Assentd::Options options;
    options.wrapper = wrapper;
    EXPECT_THAT(RefusedStart(options), HasSubstr("Read-only file system"));
  } else {
    ASSERT_EQ(chmod(path_.c_str(), 0444), 0);
    EXPECT_THAT(RefusedStart(), AllOf(HasSubstr("Permission denied"), HasSubstr("that it may write")));
    ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
  }
  ExpectStoreWorks();
}

TEST_F(BadStoreTest, ADiskWithoutRoomForTheStoreIsSaid) {
  if (!CanMount(folder_->path())) GTEST_SKIP() << "no mount namespaces here";
  Assentd::Options options;
  options.wrapper = WithSmallDisk(folder_->path(), "size=8k");
  EXPECT_THAT(RefusedStart(options), HasSubstr("make room on the disk"));
}

// The disk fills up while the coordinator runs: writes are refused with words, nobody is told an outcome that is not
// stored, reads go on, and once there is room again everything does, without a restart.
TEST_F(BadStoreTest, ADiskThatFillsUpStopsWritesOnlyWhileItIsFull) {
  if (!CanMount(folder_->path())) GTEST_SKIP() << "no mount namespaces here";
  Assentd::Options options;
  options.store = path_;
  options.wrapper = WithSmallDisk(folder_->path(), "size=64m");
  StartDaemon(options);
  ExpectNormalTransaction();
  std::vector<std::string> waiting;
  for (int i = 0; i < 500; ++i) {
    waiting.push_back(absl::StrCat("test-waiting-", i));
    ASSERT_TRUE(stubs_->Create(CreateOf(waiting[i], {"a"})).ok());
    ASSERT_TRUE(stubs_->Prepared(VotesOf(waiting[i], {"a"})).ok());
  }

  // Its own view of the folder, from outside.
  const std::string filler = absl::StrCat("/proc/", daemon_->pid(), "/root", folder_->path(), "/filler");
  {
    std::ofstream file(filler, std::ios::binary);
    ASSERT_TRUE(file.is_open()) << filler;
    while (file << std::string(65536, 'x') << std::flush) {
    }
  }
  grpc::health::v1::HealthCheckRequest check;
  const auto health = [&] {
    const auto response = stubs_->Call(stubs_->health(), &grpc::health::v1::Health::StubInterface::Check, check);
    return response.ok() ? response->status() : grpc::health::v1::HealthCheckResponse::UNKNOWN;
  };
  absl::Status full;
  int created = 0;
  for (; created < 100000 && full.ok(); ++created) {
    full = stubs_->Create(CreateOf(absl::StrCat("test-filling-", created), {"a"})).status();
  }
  EXPECT_EQ(ReasonName(full), "STORE_FULL") << full;
  EXPECT_TRUE(absl::IsUnavailable(full));
  EXPECT_TRUE(IsRetryable(full));
  EXPECT_THAT(std::string(full.message()), HasSubstr("make room on the disk"));
  // A decision is smaller and may still fit into what the log has left; in the end it does not. What is refused is
  // undecided as before, and can be read.
  absl::Status commit;
  std::string refused;
  for (size_t i = 0; i < waiting.size() && commit.ok(); ++i) {
    refused = waiting[i];
    commit = stubs_->Finalize(FinalizeOf(refused, v1::DECISION_COMMIT)).status();
  }
  EXPECT_EQ(ReasonName(commit), "STORE_FULL") << commit;
  EXPECT_EQ(health(), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  const auto found = stubs_->Get(refused);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->global().decision(), v1::DECISION_UNSPECIFIED);
  EXPECT_TRUE(stubs_->List({}).ok());
  EXPECT_TRUE(absl::IsNotFound(stubs_->Get(absl::StrCat("test-filling-", created - 1)).status()));

  std::filesystem::remove(filler);
  absl::Status committed;
  for (int i = 0; i < 300; ++i) {
    committed = stubs_->Finalize(FinalizeOf(refused, v1::DECISION_COMMIT)).status();
    if (!absl::IsUnavailable(committed)) break;
    absl::SleepFor(absl::Milliseconds(100));
  }
  EXPECT_TRUE(committed.ok()) << committed;
  ExpectNormalTransaction();
  for (int i = 0; i < 100 && health() != grpc::health::v1::HealthCheckResponse::SERVING; ++i) {
    absl::SleepFor(absl::Milliseconds(100));
  }
  EXPECT_EQ(health(), grpc::health::v1::HealthCheckResponse::SERVING);
}

}  // namespace
}  // namespace assent
