// Through a pooler: what it may do, and what is refused before it does harm.
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/database_engine.h"
#include "resource_manager/postgres_recovery.h"
#include "resource_manager/postgres_test_server.h"
#include "tests/fixtures/process.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

using testing::HasSubstr;

// A pgbouncer in front of the shared server.
class PgBouncer {
 public:
  explicit PgBouncer(const std::string& pool_mode) : port_(FreePort()) {
    std::ofstream(dir_.path() + "/users") << "\"postgres\" \"" << SharedPostgres().password() << "\"\n";
    std::ofstream(dir_.path() + "/ini") << "[databases]\npostgres = host=" << SharedPostgres().folder()
                                        << " port=" << SharedPostgres().port()
                                        << "\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
                                        << "listen_port = " << port_
                                        << "\nunix_socket_dir =\nauth_type = scram-sha-256\n"
                                        << "auth_file = " << dir_.path() << "/users\npool_mode = " << pool_mode
                                        << "\ndefault_pool_size = 4\nignore_startup_parameters = extra_float_digits\n";
    const passwd* const nobody = getpwnam("nobody");
    SpawnOptions options;
    options.output_path = dir_.path() + "/log";
    if (geteuid() == 0 && nobody != nullptr) {  // It refuses to run as root.
      options.user = nobody->pw_uid;
      for (const char* name : {"", "/users", "/ini"}) {
        CHECK_EQ(chown((dir_.path() + name).c_str(), nobody->pw_uid, static_cast<gid_t>(-1)), 0);
      }
    }
    const auto program = FindProgram("pgbouncer");
    CHECK(program.ok()) << program.status();
    const auto pid = Spawn({*program, dir_.path() + "/ini"}, options);
    CHECK(pid.ok()) << pid.status();
    pid_ = *pid;
    for (int i = 0; i < 500 && !PostgresSession::Connect(Options()).ok(); ++i) absl::SleepFor(absl::Milliseconds(10));
  }
  ~PgBouncer() {
    kill(pid_, SIGKILL);
    WaitForExit(pid_, absl::InfiniteDuration());
  }

  ConnectOptions Options() const {
    ConnectOptions options = PostgresOptions();
    options.address = *ParseAddress(absl::StrCat("127.0.0.1:", port_));
    return options;
  }
  std::string log() const { return ReadTail(dir_.path() + "/log"); }

 private:
  const TempDir dir_ = *TempDir::Create();
  const int port_;
  pid_t pid_ = 0;
};

TEST(PostgresPoolerTest, ASessionPoolerDoesNoHarm) {
  const PgBouncer pooler("session");
  auto connected = PostgresSession::Connect(pooler.Options());
  ASSERT_TRUE(connected.ok()) << connected.status() << pooler.log();
  PostgresSession* const session = connected->get();
  EXPECT_TRUE(session->behind_a_pooler());
  EXPECT_FALSE(MustConnectPostgres()->behind_a_pooler());
  MustQuery(session, "CREATE TABLE IF NOT EXISTS pooled (id TEXT)");
  for (const bool commit : {true, false}) {
    const Xid xid = NewXid();
    ASSERT_TRUE(session->Start(xid, absl::StrCat("INSERT INTO pooled VALUES ('", xid.bqual, "')")).xa.ok());
    // Who runs it is known by the server's own number, not the pooler's.
    EXPECT_EQ(One(MustConnectPostgres().get(),
                  absl::StrCat("SELECT state FROM pg_stat_activity WHERE pid = ", session->connection_id())),
              "idle in transaction");
    ASSERT_TRUE(session->Prepare(xid, nullptr).ok());
    ASSERT_TRUE((commit ? session->Commit(xid) : session->Rollback(xid)).ok());
    EXPECT_EQ(
        One(MustConnectPostgres().get(), absl::StrCat("SELECT COUNT(*) FROM pooled WHERE id = '", xid.bqual, "'")),
        commit ? "1" : "0");
  }
  auto recovery = PostgresRecovery::Connect(pooler.Options(), 2);
  ASSERT_TRUE(recovery.ok()) << recovery.status();
  EXPECT_TRUE((*recovery)->ListPrepared().ok());
}

TEST(PostgresPoolerTest, ATransactionPoolerIsRefusedBeforeAnythingIsWritten) {
  const PgBouncer pooler("transaction");
  auto connected = PostgresSession::Connect(pooler.Options());
  ASSERT_TRUE(connected.ok()) << connected.status() << pooler.log();
  PostgresSession* const session = connected->get();
  MustQuery(MustConnectPostgres().get(), "CREATE TABLE IF NOT EXISTS pooled (id TEXT)");
  // Others take the server process that the session was set up on.
  std::vector<std::unique_ptr<PostgresSession>> others;
  for (int i = 0; i < 3; ++i) {
    others.push_back(MustConnectPostgres(pooler.Options()));
    MustQuery(others.back().get(), "BEGIN");
  }
  const Xid xid = NewXid();
  const StartResult started = session->Start(xid, "INSERT INTO pooled VALUES ('lost')");
  EXPECT_EQ(started.xa.outcome, XaOutcome::kSessionReset);
  EXPECT_THAT(started.xa.error.message, HasSubstr("pool_mode"));
  EXPECT_EQ(session->branch_state(), BranchState::kNone);
  EXPECT_EQ(One(MustConnectPostgres().get(), "SELECT COUNT(*) FROM pooled WHERE id = 'lost'"), "0");
}

TEST(PostgresPoolerTest, TheCheckSeesIt) {
  const PgBouncer pooler("session");
  v1::Resource resource;
  resource.set_engine(v1::Resource::ENGINE_POSTGRESQL);
  resource.set_address(absl::StrCat("127.0.0.1:", pooler.Options().address.port));
  resource.set_user("postgres");
  resource.set_database("postgres");
  MustQuery(MustConnectPostgres().get(), "SELECT 1");
  bool seen = false;
  for (const v1::Finding& finding : CheckResource(resource, SharedPostgres().password())) {
    seen = seen || (finding.check() == "pooler" && finding.severity() == v1::Finding::SEVERITY_WARNING);
  }
  EXPECT_TRUE(seen);
}

}  // namespace
}  // namespace assent
