// Whether PREPARE lets go of a branch, as it shows on the wire: what sessions ask a MySQL server, what they say of
// themselves, and what recovery sends then. The server is a small fake that behaves as MySQL 8.0 to 9 were measured to, so
// that this is tested where there is no MySQL, too. (The same against real ones: mariadb_session_test,
// mariadb_recovery_test.)
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/mariadb_recovery.h"

namespace assent {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

using Row = std::vector<absl::optional<std::string>>;

// What a statement is answered with: an error, rows, or OK.
struct Answer {
  int error = 0;
  std::string sqlstate;
  size_t columns = 0;
  std::vector<Row> rows;
};
Answer Ok() { return Answer(); }
Answer Error(int code, const std::string& sqlstate) { return Answer{code, sqlstate, 0, {}}; }
Answer Rows(size_t columns, std::vector<Row> rows) { return Answer{0, "", columns, std::move(rows)}; }

// ---------------------------------------------------------------------------------------------------------------------
// The protocol: just enough of it.

constexpr unsigned kInTransaction = 1;
constexpr unsigned kAutocommit = 2;
constexpr unsigned kMoreResults = 8;

std::string Int(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text.push_back(static_cast<char>(value >> (8 * i)));
  return text;
}

std::string Text(const std::string& text) {
  return text.size() < 251 ? Int(text.size(), 1) + text : "\xfc" + Int(text.size(), 2) + text;
}

// One end of a connection, after the login.
class Wire {
 public:
  explicit Wire(int fd) : fd_(fd) {}
  ~Wire() { close(fd_); }

  bool Receive(std::string* packet) {
    unsigned char header[4];
    if (recv(fd_, header, sizeof(header), MSG_WAITALL) != static_cast<ssize_t>(sizeof(header))) return false;
    sequence_ = header[3] + 1;
    packet->assign(static_cast<size_t>(header[0] | header[1] << 8 | header[2] << 16), '\0');
    return packet->empty() || recv(fd_, &(*packet)[0], packet->size(), MSG_WAITALL) > 0;
  }
  void Send(const std::string& packet) {
    const std::string bytes = Int(packet.size(), 3) + Int(static_cast<uint64_t>(sequence_++), 1) + packet;
    send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  void Send(const Answer& answer, unsigned status) {
    if (answer.error != 0) {
      return Send("\xff" + Int(static_cast<uint64_t>(answer.error), 2) + "#" + answer.sqlstate + "refused");
    }
    const std::string eof = "\xfe" + Int(0, 2) + Int(status, 2);
    if (answer.columns == 0) return Send(std::string(3, '\0') + Int(status, 2) + Int(0, 2));
    Send(Int(answer.columns, 1));
    for (size_t i = 0; i < answer.columns; ++i) {
      Send(Text("def") + Text("") + Text("") + Text("") + Text(absl::StrCat("c", i)) + Text("") + "\x0c" + Int(63, 2) +
           Int(1024, 4) + "\xfd" + Int(0, 5));
    }
    Send(eof);
    for (const Row& row : answer.rows) {
      std::string packet;
      for (const auto& cell : row) packet += cell ? Text(*cell) : "\xfb";
      Send(packet);
    }
    Send(eof);
  }
  void Shutdown() { shutdown(fd_, SHUT_RDWR); }

 private:
  const int fd_;
  int sequence_ = 0;
};

// ---------------------------------------------------------------------------------------------------------------------
// The server.

class FakeServer {
 public:
  // `detach`: the value of xa_detach_on_prepare; nullopt: the server does not know the variable.
  FakeServer(std::string version, absl::optional<bool> detach)
      : version_(std::move(version)), detach_(detach), listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    CHECK_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    CHECK_EQ(listen(listener_, 16), 0);
    CHECK_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    options_.address.host = "127.0.0.1";
    options_.address.port = ntohs(address.sin_port);
    options_.user = "teller";
    options_.password = "secret";
    acceptor_ = std::thread([this] { Accept(); });
  }
  // All sessions must be gone.
  ~FakeServer() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    close(listener_);
    for (std::thread& thread : threads_) thread.join();
  }

  const ConnectOptions& options() const { return options_; }
  // The statements of all connections, or of all but one, in the order in which they came.
  std::vector<std::string> Statements(uint64_t except = 0) {
    MutexLock lock(&mu_);
    std::vector<std::string> statements;
    for (const auto& statement : log_) {
      if (statement.first != except) statements.push_back(statement.second);
    }
    return statements;
  }
  bool IsCommitted(const Xid& xid) {
    MutexLock lock(&mu_);
    return committed_.count(HexOf(xid)) != 0;
  }

 private:
  struct Session {
    std::string active;  // The xid between XA START and PREPARE or the end, as hex.
    absl::optional<bool> detach;
    Wire* wire = nullptr;
  };

  // X'…' of gtrid and bqual, without the quotes between.
  static std::string HexOf(const Xid& xid) { return absl::BytesToHexString(xid.gtrid + xid.bqual); }
  static std::string HexIn(const std::string& sql) {
    const std::vector<std::string> parts = absl::StrSplit(sql, '\'');
    CHECK_EQ(parts.size(), 5u) << sql;
    return parts[1] + parts[3];
  }
  static std::string BqualIn(const std::string& sql) {
    const std::vector<std::string> parts = absl::StrSplit(sql, '\'');
    return parts[3];
  }
  bool IsMariaDb() const { return absl::StrContains(version_, "MariaDB"); }

  void Accept() {
    for (;;) {
      const int fd = accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      const uint64_t id = ++last_id_;
      threads_.emplace_back([this, fd, id] { Serve(fd, id); });
    }
  }

  void Serve(int fd, uint64_t id) {
    Wire wire(fd);
    // LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION; MULTI_STATEMENTS, MULTI_RESULTS,
    // PLUGIN_AUTH.
    wire.Send("\x0a" + version_ + Int(0, 1) + Int(id, 4) + "saltsalt" + Int(0, 1) + Int(0xa209, 2) + "\x21" +
              Int(kAutocommit, 2) + Int(0x000b, 2) + "\x15" + std::string(10, '\0') + "saltsaltsalt" + Int(0, 1) +
              "mysql_native_password" + Int(0, 1));
    std::string packet;
    if (!wire.Receive(&packet)) return;
    wire.Send(Ok(), kAutocommit);
    {
      MutexLock lock(&mu_);
      sessions_[id] = Session{"", detach_, &wire};
    }
    while (wire.Receive(&packet) && packet[0] == '\x03') {  // COM_QUERY; COM_QUIT, for one, ends it.
      const std::vector<std::string> statements = absl::StrSplit(packet.substr(1), ';');
      for (size_t i = 0; i < statements.size(); ++i) {
        unsigned status = kAutocommit | (i + 1 < statements.size() ? kMoreResults : 0);
        Answer answer;
        {
          MutexLock lock(&mu_);
          log_.emplace_back(id, statements[i]);
          answer = Run(id, statements[i]);
          if (!sessions_[id].active.empty()) status |= kInTransaction;
        }
        wire.Send(answer, status);
        if (answer.error != 0) break;
      }
    }
    MutexLock lock(&mu_);
    sessions_.erase(id);
    for (auto& branch : prepared_) {
      if (branch.second.holder == id) branch.second.holder = 0;
    }
  }

  Answer Run(uint64_t id, const std::string& sql) {
    Session& session = sessions_[id];
    if (absl::StrContains(sql, "VERSION()")) return Identity();
    if (absl::StartsWith(sql, "SELECT IF(@assent_branch=")) {
      CHECK(absl::StrContains(sql, "@@session.xa_detach_on_prepare")) << sql;
      if (!session.detach) return Error(1193, "HY000");
      return Rows(1, {{std::string(*session.detach ? "1" : "0")}});
    }
    if (absl::StartsWith(sql, "SET SESSION xa_detach_on_prepare=")) {
      session.detach = absl::EndsWith(sql, "ON");
      return Ok();
    }
    if (absl::StartsWith(sql, "XA RECOVER")) return Recover();
    if (absl::StartsWith(sql, "XA START")) session.active = HexIn(sql);
    if (absl::StartsWith(sql, "XA PREPARE")) {
      prepared_[HexIn(sql)] = Branch{BqualIn(sql).size() / 2, session.detach.value_or(false) ? 0 : id};
      session.active.clear();
    }
    if (absl::StartsWith(sql, "XA COMMIT") || absl::StartsWith(sql, "XA ROLLBACK")) {
      const auto branch = prepared_.find(HexIn(sql));
      if (branch == prepared_.end() || (branch->second.holder != 0 && branch->second.holder != id)) {
        return Error(1397, "XAE04");
      }
      if (absl::StartsWith(sql, "XA COMMIT")) committed_.insert(branch->first);
      prepared_.erase(branch);
    }
    if (absl::StartsWith(sql, "SELECT ID FROM information_schema.PROCESSLIST")) {
      std::vector<Row> ids;
      for (const auto& entry : sessions_) ids.push_back({absl::StrCat(entry.first)});
      return Rows(1, std::move(ids));
    }
    if (sql == "SHOW ENGINE INNODB STATUS") {
      std::string list = "\nLIST OF TRANSACTIONS FOR EACH SESSION:\n";
      for (const auto& branch : prepared_) {
        absl::StrAppend(&list, "---TRANSACTION 17, ACTIVE (PREPARED) 1 sec\n");
        if (branch.second.holder != 0) absl::StrAppend(&list, "MySQL thread id ", branch.second.holder, ", query id 3\n");
      }
      return Rows(3, {{std::string("InnoDB"), std::string(), list + "\nEND OF INNODB MONITOR OUTPUT\n"}});
    }
    if (absl::StartsWith(sql, "KILL CONNECTION ")) {
      uint64_t victim = 0;
      CHECK(absl::SimpleAtoi(sql.substr(16), &victim)) << sql;
      if (sessions_.count(victim) == 0) return Error(1094, "HY000");
      sessions_[victim].wire->Shutdown();
    }
    return Ok();
  }

  Answer Identity() const {
    Row row = {std::string("fake:3306"), version_, std::string("1700000000")};
    if (IsMariaDb()) return Rows(3, {row});
    row.push_back(detach_ ? absl::optional<std::string>(*detach_ ? "ON" : "OFF") : absl::nullopt);
    return Rows(4, {row});
  }

  Answer Recover() const {
    std::vector<Row> rows;
    for (const auto& branch : prepared_) {
      const size_t size = branch.first.size() / 2;
      rows.push_back({absl::StrCat(kFormatId), absl::StrCat(size - branch.second.bqual_size),
                      absl::StrCat(branch.second.bqual_size),
                      IsMariaDb() ? absl::HexStringToBytes(branch.first) : "0x" + branch.first});
    }
    return Rows(4, std::move(rows));
  }

  struct Branch {
    size_t bqual_size = 0;
    uint64_t holder = 0;  // The session that has it; 0: nobody.
  };

  const std::string version_;
  const absl::optional<bool> detach_;
  const int listener_;
  ConnectOptions options_;
  std::thread acceptor_;
  std::vector<std::thread> threads_;  // Of the acceptor's, then of the destructor's.
  uint64_t last_id_ = 40;
  Mutex mu_;
  std::vector<std::pair<uint64_t, std::string>> log_;
  std::map<uint64_t, Session> sessions_;
  std::map<std::string, Branch> prepared_;
  std::set<std::string> committed_;
};

// ---------------------------------------------------------------------------------------------------------------------

Xid TheXid() { return Xid{"wire-1", "b"}; }
std::string TheLiteral() { return XidSqlLiteral(TheXid()); }

std::unique_ptr<MariaDbSession> MustPrepare(const FakeServer& server, absl::string_view before = {}) {
  auto session = MariaDbSession::Connect(server.options());
  CHECK(session.ok()) << session.status();
  if (!before.empty()) CHECK((*session)->Query(before).ok());
  const StartResult started = (*session)->Start(TheXid(), "INSERT INTO t VALUES (1)");
  CHECK(started.xa.ok()) << started.xa.error.message;
  EXPECT_FALSE((*session)->Describe().detached()) << "it is not prepared";
  const XaResult prepared = (*session)->Prepare(TheXid(), nullptr);
  CHECK(prepared.ok()) << prepared.error.message;
  return *std::move(session);
}

// The branch as its participant has voted on it: to be committed, and without a witness.
BranchTask TaskOf(const MariaDbSession& session) {
  BranchTask task;
  task.xid = TheXid();
  task.decision = v1::DECISION_COMMIT;
  task.voted_prepared = true;
  task.session = session.Describe();
  task.created = absl::Now();
  return task;
}

BranchFinding Finish(const FakeServer& server, const BranchTask& task) {
  auto recovery = MariaDbRecovery::Connect(server.options(), 1);
  CHECK(recovery.ok()) << recovery.status();
  const auto findings = (*recovery)->Finish({task});
  CHECK(findings.ok()) << findings.status();
  return (*findings)[0];
}

std::string OutcomeOf(const BranchFinding& finding) { return v1::BranchOutcome_Name(finding.evidence.outcome()); }

TEST(MySqlWireTest, OnMeansDetachedAndRecoveryFinishesAtOnce) {
  FakeServer server("8.4.0", true);
  auto session = MustPrepare(server);
  EXPECT_TRUE(session->detaches());
  EXPECT_TRUE(session->Describe().detached());
  EXPECT_FALSE(session->holds_branch());
  // The session lives, within its lease; that does not matter.
  const uint64_t id = session->connection_id();
  const BranchFinding finding = Finish(server, TaskOf(*session));
  EXPECT_EQ(OutcomeOf(finding), "BRANCH_OUTCOME_COMMITTED");
  EXPECT_TRUE(server.IsCommitted(TheXid()));
  const std::vector<std::string> sent = server.Statements(/*except=*/id);
  EXPECT_THAT(sent, Contains("XA COMMIT " + TheLiteral()));
  EXPECT_THAT(sent, Contains("XA RECOVER /*!80000 CONVERT XID*/"));
  EXPECT_THAT(sent, Not(Contains(HasSubstr("KILL"))));
  // Its own session is told so.
  EXPECT_EQ(session->Commit(TheXid()).outcome, XaOutcome::kUnknownXid);
  EXPECT_TRUE(session->Close().ok());
}

TEST(MySqlWireTest, OffMeansHeldAndRecoveryWaitsForItsSession) {
  FakeServer server("8.4.0", false);
  auto session = MustPrepare(server);
  EXPECT_FALSE(session->detaches());
  EXPECT_FALSE(session->Describe().detached());
  EXPECT_TRUE(session->holds_branch());
  const uint64_t id = session->connection_id();
  BranchTask task = TaskOf(*session);
  EXPECT_EQ(OutcomeOf(Finish(server, task)), "BRANCH_OUTCOME_ATTACHED_ELSEWHERE");
  EXPECT_THAT(server.Statements(/*except=*/id),
              AllOf(Contains("SHOW ENGINE INNODB STATUS"), Not(Contains(HasSubstr("XA COMMIT"))),
                    Not(Contains(HasSubstr("KILL")))));
  // Past its lease it is ended first, and what another session's COMMIT answers then is no proof.
  task.lease_over = task.may_kill = true;
  const BranchFinding finding = Finish(server, task);
  EXPECT_EQ(OutcomeOf(finding), "BRANCH_OUTCOME_UNSPECIFIED");
  EXPECT_THAT(finding.evidence.detail(), HasSubstr("proves nothing without a witness"));
  EXPECT_EQ(finding.evidence.done(), absl::StrCat("KILL CONNECTION ", id, "; XA COMMIT"));
  session->Abandon();
}

TEST(MySqlWireTest, AVersionWithoutTheVariableHolds) {
  FakeServer server("8.0.28", absl::nullopt);
  auto session = MustPrepare(server);
  EXPECT_TRUE(session->is_mysql());
  EXPECT_FALSE(session->detaches());
  EXPECT_FALSE(session->Describe().detached());
  EXPECT_TRUE(session->holds_branch());
  EXPECT_THAT(server.Statements(), Not(Contains(HasSubstr("@@session.xa_detach_on_prepare"))));
  EXPECT_EQ(OutcomeOf(Finish(server, TaskOf(*session))), "BRANCH_OUTCOME_ATTACHED_ELSEWHERE");
  EXPECT_FALSE(server.IsCommitted(TheXid()));
  EXPECT_TRUE(session->Commit(TheXid()).ok());
}

TEST(MySqlWireTest, WhatTheApplicationHasSetCountsAndIsAskedForInTheBatchOfPrepare) {
  for (const bool on : {true, false}) {
    FakeServer server("8.4.0", !on);
    auto session = MustPrepare(server, on ? "SET SESSION xa_detach_on_prepare=ON" : "SET SESSION xa_detach_on_prepare=OFF");
    EXPECT_EQ(session->Describe().detached(), on);
    EXPECT_EQ(session->holds_branch(), !on);
    EXPECT_EQ(OutcomeOf(Finish(server, TaskOf(*session))),
              on ? "BRANCH_OUTCOME_COMMITTED" : "BRANCH_OUTCOME_ATTACHED_ELSEWHERE");
    session->Abandon();
  }
}

TEST(MySqlWireTest, MariaDbIsNotAskedAndItsListIsRaw) {
  FakeServer server("5.5.5-10.11.6-MariaDB", absl::nullopt);
  auto session = MustPrepare(server);
  EXPECT_FALSE(session->is_mysql());
  EXPECT_FALSE(session->Describe().detached());
  const std::vector<std::string> sent = server.Statements();
  EXPECT_THAT(sent, Not(Contains(HasSubstr("@@session.xa_detach_on_prepare"))));
  EXPECT_EQ(sent.back(), "XA PREPARE " + TheLiteral());
  const auto listed = session->Recover();
  ASSERT_TRUE(listed.ok()) << listed.status();
  ASSERT_EQ(listed->size(), 1u);
  EXPECT_EQ((*listed)[0].gtrid, "wire-1");
  EXPECT_EQ((*listed)[0].bqual, "b");
  session->Abandon();
}

}  // namespace
}  // namespace assent
