// Moving house with the real programs: a store with a history that is not over goes from SQLite to MariaDB and back,
// whatever is killed on the way; and a store is copied while assentd works on it.
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/open_store.h"
#include "store/testing/transfer_test_util.h"
#include "tests/assentctl/assentctl_test_base.h"
#include "tests/fixtures/process.h"
#include "tests/recovery/recovery_rig.h"

namespace assent {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class MovingTest : public AssentctlTest {
 protected:
  void SetUp() override {
    AssentctlTest::SetUp();
    auto started = PrivateMariaDb::Start();
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
  }

  std::string Path(const std::string& name) const { return absl::StrCat(folder_->path(), "/", name); }
  bool Exists(const std::string& name) const {
    struct stat info;
    return stat(Path(name).c_str(), &info) == 0;
  }
  std::vector<std::string> Sqlite(const std::string& name) const { return {"--cluster=test", "--store", Path(name)}; }
  std::vector<std::string> MariaDb(const std::string& database) const {
    Assentd::Options options;
    options.UseStore(*server_, database);
    return {"--cluster=test", "--store", options.store, "--store-password-file", options.store_password_file};
  }
  static std::vector<std::string> Words(const std::string& verb, const std::vector<std::string>& where,
                                        const std::vector<std::string>& rest) {
    std::vector<std::string> words = {"store", verb};
    words.insert(words.end(), where.begin(), where.end());
    words.insert(words.end(), rest.begin(), rest.end());
    return words;
  }
  int StoreVerb(const std::string& verb, const std::vector<std::string>& where, const std::vector<std::string>& rest) {
    return Ctl(Words(verb, where, rest));
  }
  void Fill(const std::string& name, int count) {
    StoreSettings settings;
    settings.store = Path(name);
    settings.cluster = "test";
    const auto store = OpenStore(settings);
    ASSERT_TRUE(store.ok()) << store.status();
    FillWithHistory(store->get(), 0, count);
  }
  // Starts the program and kills it with -9 after a while. True if it was still at work.
  bool KilledAfter(absl::Duration patience, const std::vector<std::string>& words) {
    std::vector<std::string> argv = {program_};
    argv.insert(argv.end(), words.begin(), words.end());
    SpawnOptions options;
    options.output_path = Path("killed");
    const absl::StatusOr<pid_t> pid = Spawn(argv, options);
    EXPECT_TRUE(pid.ok()) << pid.status();
    absl::SleepFor(patience);
    kill(*pid, SIGKILL);
    int status = 0;
    EXPECT_EQ(waitpid(*pid, &status, 0), *pid);
    return WIFSIGNALED(status);
  }

  std::unique_ptr<PrivateMariaDb> server_;
};

// On a connection of its own: the rig's may not have noticed yet that its coordinator is another one.
std::vector<std::string> GtridsOf(const Assentd& daemon) {
  CoordinatorApi api(daemon.address());
  const auto globals = api.ListAllGlobals();
  EXPECT_TRUE(globals.ok()) << globals.status();
  std::vector<std::string> gtrids;
  if (!globals.ok()) return gtrids;
  for (const v1::Global& global : *globals) gtrids.push_back(global.gtrid());
  return gtrids;
}

// What the coordinator of `rig` is in the middle of when its store moves.
struct History {
  std::string committed, rolled_back, heuristic, in_doubt;
  std::vector<RawBranch> active;
};

History LiveHistory(RecoveryRig* rig) {
  History history;
  std::vector<RawBranch> branches = rig->Decided({0, 1}, v1::DECISION_COMMIT);
  history.committed = branches[0].xid.gtrid;
  for (RawBranch& branch : branches) branch.session->Abandon();
  rig->Await(history.committed, v1::Global::STATE_COMMITTED);

  branches = rig->Decided({0}, v1::DECISION_ROLLBACK);
  history.rolled_back = branches[0].xid.gtrid;
  for (RawBranch& branch : branches) branch.session->Abandon();
  rig->Await(history.rolled_back, v1::Global::STATE_ROLLED_BACK);

  branches = rig->Begin({0});
  history.heuristic = branches[0].xid.gtrid;
  rig->Prepare(&branches[0]);
  EXPECT_TRUE(rig->Vote(branches).ok());
  EXPECT_TRUE(branches[0].session->Rollback(branches[0].xid).ok());  // By hand.
  branches[0].session->Abandon();
  EXPECT_TRUE(rig->Finalize(history.heuristic, v1::DECISION_COMMIT).ok());
  rig->Await(history.heuristic, v1::Global::STATE_HEURISTIC);

  history.active = rig->Begin({0});

  branches = rig->Begin({0, 1});
  history.in_doubt = branches[0].xid.gtrid;
  for (RawBranch& branch : branches) rig->Prepare(&branch);
  EXPECT_TRUE(rig->Vote(branches).ok());
  rig->database(1).Kill9();
  EXPECT_TRUE(rig->Finalize(history.in_doubt, v1::DECISION_COMMIT).ok());
  for (RawBranch& branch : branches) branch.session->Abandon();
  return history;
}

TEST_F(MovingTest, AHistoryThatIsNotOverGoesThereAndBack) {
  RecoveryRig::Options rig_options;
  rig_options.coordinator.store = Path("assent.db");
  auto started = RecoveryRig::Start(std::move(rig_options));
  ASSERT_TRUE(started.ok()) << started.status();
  const std::unique_ptr<RecoveryRig> rig = *std::move(started);
  History history = LiveHistory(rig.get());
  EXPECT_EQ(StoreVerb("export", Sqlite("assent.db"), {Path("file")}), 1);
  EXPECT_THAT(err_, AllOf(HasSubstr("STORE_LOCKED"), HasSubstr(absl::StrCat("process ", rig->coordinator().pid()))));
  const std::vector<std::string> gtrids = GtridsOf(rig->coordinator());
  ASSERT_EQ(*rig->coordinator().Terminate(), 0);

  ASSERT_EQ(StoreVerb("export", Sqlite("assent.db"), {Path("file")}), 0) << err_;
  EXPECT_THAT(err_, testing::ContainsRegex("exported 5 transactions and 2 resources in [0-9]+\\.[0-9] s\n"));
  ASSERT_EQ(StoreVerb("import", MariaDb("moved"), {Path("file")}), 0) << err_;
  ASSERT_EQ(StoreVerb("verify", MariaDb("moved"), {Path("file")}), 0) << out_ << err_;
  EXPECT_THAT(out_, HasSubstr("OK: 5 transactions and 2 resources"));

  Assentd::Options options;
  options.UseStore(*server_, "moved");
  options.port = rig->coordinator().port();
  options.extra = {"--sweep-interval=500ms"};
  ASSERT_TRUE(rig->database(1).Restart().ok());
  auto there = Assentd::Start(options);
  ASSERT_TRUE(there.ok()) << there.status();
  EXPECT_EQ(GtridsOf(**there), gtrids);
  EXPECT_EQ(rig->Await(history.in_doubt, v1::Global::STATE_COMMITTED).outcome(), v1::OUTCOME_COMMITTED);
  EXPECT_EQ(rig->Rows(0, history.in_doubt) + rig->Rows(1, history.in_doubt), 2);
  EXPECT_EQ(rig->Global(history.heuristic).global().state(), v1::Global::STATE_HEURISTIC);
  EXPECT_EQ(rig->Global(history.rolled_back).outcome(), v1::OUTCOME_ROLLED_BACK);
  // Whoever was in the middle goes on.
  const std::string active = history.active[0].xid.gtrid;
  rig->Prepare(&history.active[0]);
  ASSERT_TRUE(rig->Vote(history.active).ok());
  history.active[0].session->Abandon();
  ASSERT_TRUE(rig->Finalize(active, v1::DECISION_COMMIT).ok());
  rig->Await(active, v1::Global::STATE_COMMITTED);

  EXPECT_EQ(StoreVerb("export", MariaDb("moved"), {Path("again")}), 1);
  EXPECT_THAT(err_, AllOf(HasSubstr("STORE_LOCKED"), HasSubstr((*there)->address())));
  ASSERT_EQ(*(*there)->Terminate(), 0);
  ASSERT_EQ(StoreVerb("verify", MariaDb("moved"), {Path("file")}), 1);
  EXPECT_THAT(out_, HasSubstr("the store has revision"));
  ASSERT_EQ(StoreVerb("export", MariaDb("moved"), {Path("again")}), 0) << err_;
  ASSERT_EQ(StoreVerb("import", Sqlite("back.db"), {Path("again")}), 0) << err_;
  ASSERT_EQ(StoreVerb("verify", Sqlite("back.db"), {Path("again")}), 0) << out_ << err_;

  options = Assentd::Options();
  options.store = Path("back.db");
  options.port = rig->coordinator().port();
  options.extra = {"--sweep-interval=500ms"};
  auto back = Assentd::Start(options);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(GtridsOf(**back), gtrids);
  // The servers know their store again: its claims bear the same id.
  std::vector<RawBranch> branches = rig->Decided({0, 1}, v1::DECISION_COMMIT);
  for (RawBranch& branch : branches) branch.session->Abandon();
  rig->Await(branches[0].xid.gtrid, v1::Global::STATE_COMMITTED);
}

TEST_F(MovingTest, WhateverIsKilledIsContinued) {
  constexpr int kCount = 30000;
  Fill("assent.db", kCount);
  const std::vector<std::string> resume = Words("export", Sqlite("assent.db"), {"--resume", Path("file")});
  int killed = 0;
  for (int i = 0; i < 3; ++i) killed += KilledAfter(absl::Milliseconds(500), resume) ? 1 : 0;
  ASSERT_GT(killed, 0) << ReadAll(Path("killed"));
  ASSERT_TRUE(Exists("file.part"));
  EXPECT_EQ(StoreVerb("export", Sqlite("assent.db"), {Path("file")}), 1);
  EXPECT_THAT(err_, HasSubstr("--resume continues it"));
  ASSERT_EQ(Ctl(resume), 0) << err_;
  EXPECT_THAT(err_, HasSubstr("were there already"));
  EXPECT_FALSE(Exists("file.part"));

  const std::vector<std::pair<std::vector<std::string>, std::string>> kTargets = {{MariaDb("moved"), ""},
                                                                                  {Sqlite("moved.db"), "moved.db"}};
  for (const auto& [target, path] : kTargets) {
    const std::vector<std::string> import = Words("import", target, {Path("file")});
    ASSERT_TRUE(KilledAfter(absl::Milliseconds(600), import));
    ASSERT_TRUE(KilledAfter(absl::Milliseconds(600), import));
    Assentd::Options options;
    if (path.empty()) {
      options.UseStore(*server_, "moved");
    } else {
      options.store = Path(path);
    }
    const absl::Status refused = Assentd::Start(options).status();
    EXPECT_THAT(std::string(refused.message()), AllOf(HasSubstr("code 3"), HasSubstr("has not finished")));
    ASSERT_EQ(Ctl(import), 0) << err_;
    EXPECT_THAT(err_, HasSubstr("were there already"));
    ASSERT_EQ(StoreVerb("verify", target, {Path("file")}), 0) << out_ << err_;
    EXPECT_THAT(out_, HasSubstr(absl::StrCat("OK: ", kCount, " transactions")));
    const auto daemon = Assentd::Start(options);
    EXPECT_TRUE(daemon.ok()) << daemon.status();
  }
}

TEST_F(MovingTest, ThroughAPipe) {
  Fill("assent.db", 2000);
  const std::string script = absl::StrCat(program_, " store export --cluster test --store ", Path("assent.db"), " - | ",
                                          program_, " store import --store ", Path("new.db"), " -");
  ASSERT_EQ(Shell("bash", {"-o", "pipefail", "-c", script}), 0) << out_;
  EXPECT_THAT(out_, HasSubstr("imported 2000 transactions"));
  // A pipe that breaks leaves a store that is known to be half of one.
  const std::string cut =
      absl::StrCat(program_, " store export --cluster test --store ", Path("assent.db"), " - | head -c 100000 | ",
                   program_, " store import --store ", Path("half.db"), " -");
  ASSERT_EQ(Shell("bash", {"-c", cut}), 1);
  EXPECT_THAT(out_, AllOf(HasSubstr("STORE_FILE_INVALID"), HasSubstr("without a trailer")));
  ASSERT_EQ(StoreVerb("verify", Sqlite("half.db"), {Path("half.db")}), 1);
  ASSERT_EQ(StoreVerb("export", Sqlite("half.db"), {Path("x")}), 1);
  EXPECT_THAT(err_, HasSubstr("STORE_HALF_IMPORTED"));
}

TEST_F(MovingTest, WhatIsWrongHasItsExitCode) {
  Fill("assent.db", 100);
  ASSERT_EQ(StoreVerb("export", Sqlite("assent.db"), {Path("file")}), 0) << err_;
  EXPECT_EQ(StoreVerb("export", Sqlite("assent.db"), {Path("file")}), 1);
  EXPECT_THAT(err_, HasSubstr("is there already"));
  EXPECT_EQ(StoreVerb("export", Sqlite("assent.db"), {"--force", Path("file")}), 0) << err_;
  const std::string good = ReadAll(Path("file"));
  std::ofstream(Path("truncated")) << good.substr(0, good.size() / 2);
  std::ofstream(Path("damaged")) << std::string(good).replace(good.size() / 2, 1, "~");
  std::ofstream(Path("foreign")) << "once upon a time\n";
  for (const char* bad : {"truncated", "damaged", "foreign"}) {
    EXPECT_EQ(StoreVerb("import", Sqlite("new.db"), {Path(bad)}), 1);
    EXPECT_THAT(err_, AllOf(HasSubstr("STORE_FILE_INVALID"), HasSubstr(", line "))) << bad;
    EXPECT_FALSE(Exists("new.db"));
  }
  EXPECT_EQ(StoreVerb("import", Sqlite("new.db"), {Path("nowhere")}), 3);
  EXPECT_EQ(StoreVerb("export", Sqlite("nowhere.db"), {Path("x")}), 4);
  EXPECT_FALSE(Exists("nowhere.db"));
  EXPECT_EQ(StoreVerb("export", {"--store", "postgres://x/y"}, {Path("x")}), 2);
  EXPECT_EQ(StoreVerb("export", {}, {}), 2);
  EXPECT_EQ(StoreVerb("backup", {"--store", "mariadb://u@h/d"}, {Path("x")}), 2);
  EXPECT_EQ(Ctl({"store"}), 2);
}

TEST_F(MovingTest, ABackupUnderLoadIsAStoreThatCanBeOpened) {
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0};
  std::atomic<int> done{0};
  std::vector<std::thread> load;
  for (int t = 0; t < 4; ++t) {
    load.emplace_back([&, t] {
      Stubs stubs(daemon_->address());
      for (int i = 0; !stop; ++i) {
        const std::string gtrid = absl::StrCat("test-", t, "-", i);
        const bool ok = stubs.Create(CreateOf(gtrid, {"a"})).ok() && stubs.Prepared(VotesOf(gtrid, {"a"})).ok() &&
                        stubs.Finalize(FinalizeOf(gtrid, v1::DECISION_COMMIT)).ok() &&
                        stubs.Completed(CompletionsOf(gtrid, {"a"})).ok();
        if (!ok) ++failed;
        if (t == 0) done = i + 1;
      }
    });
  }
  while (done < 50) absl::SleepFor(absl::Milliseconds(1));
  const int before = done;
  EXPECT_EQ(Ctl({"store", "backup", "--store", daemon_->store(), Path("copy.db")}), 0) << err_;
  const int after = done;
  EXPECT_EQ(Ctl({"store", "backup", "--store", daemon_->store(), Path("copy.db")}), 1);
  stop = true;
  for (std::thread& thread : load) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_GT(after, before) << "the coordinator was held up";

  Assentd::Options options;
  options.store = Path("copy.db");
  auto restored = Assentd::Start(options);
  ASSERT_TRUE(restored.ok()) << restored.status();
  Stubs stubs((*restored)->address());
  for (int i = 0; i < before; ++i) {
    const auto found = stubs.Get(absl::StrCat("test-0-", i));
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->outcome(), v1::OUTCOME_COMMITTED);
  }
  EXPECT_FALSE(stubs.Get(absl::StrCat("test-0-", static_cast<int>(done))).ok());
}

}  // namespace
}  // namespace assent
