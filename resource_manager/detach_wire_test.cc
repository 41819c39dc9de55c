// What is said to a MySQL server about branches that PREPARE lets go of, and about those that it does not: on the wire,
// with a server that is only played, so that it is tested where there is no MySQL.
#include <glog/logging.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/mariadb_recovery.h"
#include "resource_manager/mariadb_session.h"

namespace assent {
namespace {

using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// What the server has for xa_detach_on_prepare; kMissing: it is 8.0.28 and does not know it.
enum class Detach { kOn, kOff, kMissing };

// Speaks just enough of the protocol, and does with branches what was measured of MySQL: a held one is not known to
// other sessions (1397) until its own is gone; from then on it can be finished, but until InnoDB has let go of it, some
// looks at its status later, whoever does so is told OK and nothing happens.
class PlayedMySql {
 public:
  // A proxy is between, which numbers its connections by itself: the server's numbers are so much higher.
  std::atomic<uint64_t> behind_proxy{0};

  explicit PlayedMySql(Detach detach) : detach_(detach), listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    CHECK_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    CHECK_EQ(listen(listener_, 16), 0);
    CHECK_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    options_.address.host = "127.0.0.1";
    options_.address.port = ntohs(address.sin_port);
    options_.user = "assent";
    acceptor_ = std::thread([this] { Accept(); });
  }
  ~PlayedMySql() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    {
      MutexLock lock(&mu_);
      for (const auto& connection : open_) shutdown(connection.second, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
    close(listener_);
  }

  const ConnectOptions& options() const { return options_; }
  // The statements since the last call, as a MySQL of its version reads them; without those that set up a session.
  std::vector<std::string> Heard() {
    MutexLock lock(&mu_);
    return std::exchange(heard_, {});
  }
  // How often somebody was told OK and nothing happened.
  int lies() {
    MutexLock lock(&mu_);
    return lies_;
  }
  void WaitUntilGone(uint64_t connection) {
    for (;; absl::SleepFor(absl::Milliseconds(1))) {
      MutexLock lock(&mu_);
      if (open_.count(connection) == 0) return;
    }
  }

 private:
  // Looks at InnoDB's status that still show the connection of a branch when it is gone.
  static constexpr int kLooksToLetGo = 3;

  struct Branch {
    uint64_t owner = 0;  // 0: nobody's.
    bool prepared = false;
    int looks_left = 0;  // InnoDB has not let go of it.
  };
  using Rows = std::vector<std::vector<absl::optional<std::string>>>;
  struct Answer {
    int error = 0;
    absl::optional<Rows> rows;
  };

  void Accept() {
    for (uint64_t id = 7;; ++id) {
      const int fd = accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      {
        MutexLock lock(&mu_);
        open_[id] = fd;
      }
      threads_.emplace_back([this, fd, id] { Serve(fd, id); });
    }
  }

  void Serve(int fd, uint64_t id) {
    const std::string zero(1, '\0');
    // Protocol 10; CLIENT_LONG_PASSWORD … TRANSACTIONS, SECURE_CONNECTION; MULTI_STATEMENTS, MULTI_RESULTS,
    // PLUGIN_AUTH.
    Say(fd, 0,
        absl::StrCat("\x0a", detach_ == Detach::kMissing ? "8.0.28" : "9.7.4", zero, Little(id, 4), "saltsalt", zero,
                     "\xff\xf7", "\x2d", Little(2, 2), "\x0b", zero, "\x15", std::string(10, '\0'), "saltsaltsalt",
                     zero, "mysql_native_password", zero));
    std::string packet;
    int sequence = 0;
    if (Hear(fd, &packet, &sequence)) Say(fd, sequence + 1, Ok(2));
    while (Hear(fd, &packet, &sequence) && packet[0] != '\x01') {  // COM_QUIT
      Run(fd, id, packet.substr(1));
    }
    MutexLock lock(&mu_);
    Leave(id);
    close(fd);
  }

  // One COM_QUERY: a batch, which ends with the first error.
  void Run(int fd, uint64_t id, const std::string& batch) {
    const std::vector<std::string> statements = absl::StrSplit(AsMySqlReads(batch), ';', absl::SkipWhitespace());
    int sequence = 1;
    for (size_t i = 0; i < statements.size(); ++i) {
      const std::string statement(absl::StripAsciiWhitespace(statements[i]));
      Answer answer;
      int status = i + 1 < statements.size() ? 8 : 0;  // SERVER_MORE_RESULTS_EXISTS
      {
        MutexLock lock(&mu_);
        answer = Do(id, statement);
        for (const auto& branch : branches_) {
          if (branch.second.owner == id && !branch.second.prepared) status |= 1;  // SERVER_STATUS_IN_TRANS
        }
      }
      if (answer.error != 0) {
        Say(fd, sequence, absl::StrCat("\xff", Little(answer.error, 2), "#XAE00refused"));
        return;
      }
      if (!answer.rows) {
        Say(fd, sequence++, Ok(status));
        continue;
      }
      const size_t columns = answer.rows->empty() ? 1 : answer.rows->front().size();
      const std::string end = absl::StrCat("\xfe", Little(0, 2), Little(status, 2));
      Say(fd, sequence++, Little(columns, 1));
      for (size_t c = 0; c < columns; ++c) {
        Say(fd, sequence++,
            absl::StrCat(Text("def"), Text(""), Text(""), Text(""), Text("c"), Text("c"), "\x0c", Little(45, 2),
                         Little(4096, 4), "\xfd", Little(0, 2), Little(0, 1), Little(0, 2)));
      }
      Say(fd, sequence++, end);
      for (const auto& row : *answer.rows) {
        std::string bytes;
        for (const auto& cell : row) absl::StrAppend(&bytes, cell ? Text(*cell) : "\xfb");
        Say(fd, sequence++, bytes);
      }
      Say(fd, sequence++, end);
    }
  }

  Answer Do(uint64_t id, const std::string& sql) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const bool sets_up = absl::StartsWith(sql, "SET ") || absl::StartsWith(sql, "SELECT CONCAT(@@hostname");
    if (!sets_up) heard_.push_back(sql);
    if (sql == "SET SESSION xa_detach_on_prepare=OFF") sessions_off_.insert(id);
    if (absl::StartsWith(sql, "SET ")) return {};
    const bool detaches = detach_ == Detach::kOn && sessions_off_.count(id) == 0;
    if (absl::StartsWith(sql, "SELECT CONCAT(@@hostname")) {
      EXPECT_THAT(sql, HasSubstr("performance_schema.global_status"));
      absl::optional<std::string> variable;
      if (detach_ != Detach::kMissing) variable = detaches ? "ON" : "OFF";
      return {0, Rows{{"db:3306", detach_ == Detach::kMissing ? "8.0.28" : "9.7.4", "1700000000",
                       absl::StrCat(id + behind_proxy), "1", variable}}};
    }
    if (absl::StrContains(sql, "@@session.xa_detach_on_prepare")) {
      if (detach_ == Detach::kMissing) return {1193, absl::nullopt};
      return {0, Rows{{detaches ? "1" : "0"}}};
    }
    if (sql == "XA RECOVER CONVERT XID") {
      Rows rows;
      for (const auto& branch : branches_) {
        if (!branch.second.prepared) continue;
        const std::vector<std::string> hex = absl::StrSplit(branch.first, '\'');  // X'…',X'…',n
        rows.push_back({hex[4].substr(1), absl::StrCat(hex[1].size() / 2), absl::StrCat(hex[3].size() / 2),
                        absl::StrCat("0x", hex[1], hex[3])});
      }
      return {0, std::move(rows)};
    }
    if (sql == "SELECT ID FROM information_schema.PROCESSLIST") {
      Rows rows;
      for (const auto& connection : open_) rows.push_back({absl::StrCat(connection.first)});
      return {0, std::move(rows)};
    }
    if (sql == "SHOW ENGINE INNODB STATUS") {
      std::string text = "\nLIST OF TRANSACTIONS FOR EACH SESSION:\n";
      for (auto& branch : branches_) {
        absl::StrAppend(&text, "---TRANSACTION 1, ACTIVE", branch.second.prepared ? " (PREPARED)" : "", " 1 sec\n");
        if (branch.second.owner == 0) continue;
        absl::StrAppend(&text, "MySQL thread id ", branch.second.owner, ", OS thread handle 1\n");
        if (open_.count(branch.second.owner) == 0 && --branch.second.looks_left == 0) branch.second.owner = 0;
      }
      return {0, Rows{{"InnoDB", "", absl::StrCat(text, "\nEND OF INNODB MONITOR OUTPUT\n")}}};
    }
    const std::vector<std::string> words = absl::StrSplit(sql, ' ');
    if (absl::StartsWith(sql, "KILL CONNECTION ")) {
      uint64_t victim = 0;
      CHECK(absl::SimpleAtoi(words[2], &victim));
      if (open_.count(victim) == 0) return {1094, absl::nullopt};
      shutdown(open_[victim], SHUT_RDWR);
      return {};
    }
    if (words[0] != "XA" || words.size() != 3) {
      ADD_FAILURE() << "nobody has told what a server answers to: " << sql;
      return {1064, absl::nullopt};
    }
    if (words[1] == "START") branches_[words[2]].owner = id;
    const auto found = branches_.find(words[2]);
    if (found == branches_.end()) return {1397, absl::nullopt};
    Branch& branch = found->second;
    if (words[1] == "START" || words[1] == "END") return {};
    if (words[1] == "PREPARE") {
      branch.prepared = true;
      if (detaches) branch.owner = 0;
      return {};
    }
    // COMMIT, ROLLBACK.
    if (branch.owner != 0 && branch.owner != id) {
      if (open_.count(branch.owner) != 0) return {1397, absl::nullopt};
      ++lies_;
    }
    branches_.erase(found);
    return {};
  }

  // A connection ends: its active branch is rolled back, its prepared one waits for InnoDB to let go of it.
  void Leave(uint64_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    open_.erase(id);
    for (auto i = branches_.begin(); i != branches_.end();) {
      if (i->second.owner == id && !i->second.prepared) {
        i = branches_.erase(i);
        continue;
      }
      if (i->second.owner == id) i->second.looks_left = kLooksToLetGo;
      ++i;
    }
  }

  // Comments with MariaDB's mark are none of MySQL's business; those with a version are read up to its own.
  std::string AsMySqlReads(std::string sql) const {
    for (size_t at = 0; (at = sql.find("/*", at)) != std::string::npos;) {
      const size_t end = sql.find("*/", at);
      std::string body;
      int version = 0;
      if (sql[at + 2] == '!' && absl::SimpleAtoi(sql.substr(at + 3, 5), &version) &&
          version <= (detach_ == Detach::kMissing ? 80028 : 90704)) {
        body = std::string(absl::StripAsciiWhitespace(sql.substr(at + 8, end - at - 8)));
      }
      sql.replace(at, end + 2 - at, body);
    }
    return sql;
  }

  static std::string Little(uint64_t number, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text.push_back(static_cast<char>(number >> (8 * i)));
    return text;
  }
  static std::string Text(const std::string& text) {
    return absl::StrCat(text.size() < 251 ? Little(text.size(), 1) : absl::StrCat("\xfc", Little(text.size(), 2)),
                        text);
  }
  static std::string Ok(int status) {
    return absl::StrCat(Little(0, 1), Little(0, 1), Little(0, 1), Little(static_cast<uint64_t>(status), 2),
                        Little(0, 2));
  }
  static void Say(int fd, int sequence, const std::string& body) {
    const std::string packet = absl::StrCat(Little(body.size(), 3), Little(static_cast<uint64_t>(sequence), 1), body);
    send(fd, packet.data(), packet.size(), MSG_NOSIGNAL);
  }
  static bool Hear(int fd, std::string* body, int* sequence) {
    unsigned char head[4];
    if (recv(fd, head, sizeof(head), MSG_WAITALL) != static_cast<ssize_t>(sizeof(head))) return false;
    body->assign(head[0] | static_cast<size_t>(head[1]) << 8 | static_cast<size_t>(head[2]) << 16, '\0');
    *sequence = head[3];
    return recv(fd, &(*body)[0], body->size(), MSG_WAITALL) == static_cast<ssize_t>(body->size());
  }

  const Detach detach_;
  const int listener_;
  ConnectOptions options_;
  std::thread acceptor_;
  std::vector<std::thread> threads_;  // Only the acceptor adds to them.

  Mutex mu_;
  std::map<uint64_t, int> open_ ABSL_GUARDED_BY(mu_);  // Connections, and their sockets.
  std::set<uint64_t> sessions_off_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Branch> branches_ ABSL_GUARDED_BY(mu_);  // By XidSqlLiteral.
  std::vector<std::string> heard_ ABSL_GUARDED_BY(mu_);
  int lies_ ABSL_GUARDED_BY(mu_) = 0;
};

const Xid kXid{"shop-1", "a"};
std::string Xa(const std::string& verb) { return absl::StrCat("XA ", verb, " ", XidSqlLiteral(kXid)); }

// A participant's session that has prepared kXid.
std::unique_ptr<MariaDbSession> Prepared(PlayedMySql* server, const std::string& before = "") {
  auto session = MariaDbSession::Connect(server->options());
  CHECK(session.ok()) << session.status();
  if (!before.empty()) CHECK((*session)->Query(before).ok());
  CHECK((*session)->Start(kXid).xa.ok());
  const XaResult prepared = (*session)->Prepare(kXid, nullptr);
  CHECK(prepared.ok()) << prepared.error.message;
  server->Heard();
  return *std::move(session);
}

// As its vote has told; without a witness, so that nothing but the answers of the server proves anything.
BranchTask TaskOf(const MariaDbSession& session, v1::Decision decision) {
  BranchTask task;
  task.xid = kXid;
  task.decision = decision;
  task.voted_prepared = true;
  task.session = session.Describe();
  task.created = absl::Now();
  return task;
}

BranchFinding Finish(PlayedMySql* server, const BranchTask& task) {
  auto recovery = MariaDbRecovery::Connect(server->options());
  CHECK(recovery.ok()) << recovery.status();
  server->Heard();
  const auto findings = (*recovery)->Finish({task});
  CHECK(findings.ok()) << findings.status();
  return findings->front();
}

// The number of the handshake may be a proxy's, and another session's at the server.
TEST(DetachWireTest, ASessionIsNamedAsItsServerNamesIt) {
  PlayedMySql server(Detach::kOff);
  server.behind_proxy = 1000;
  auto session = MariaDbSession::Connect(server.options());
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_GT((*session)->connection_id(), 1000u);
  EXPECT_EQ((*session)->Describe().connection_id(), static_cast<int64_t>((*session)->connection_id()));
}

TEST(DetachWireTest, TheVoteSaysWhetherPrepareLetGo) {
  for (const Detach detach : {Detach::kOn, Detach::kOff, Detach::kMissing}) {
    PlayedMySql server(detach);
    auto session = MariaDbSession::Connect(server.options());
    ASSERT_TRUE(session.ok()) << session.status();
    EXPECT_TRUE((*session)->is_mysql());
    EXPECT_EQ((*session)->detaches(), detach == Detach::kOn);
    ASSERT_TRUE((*session)->Start(kXid).xa.ok());
    EXPECT_FALSE((*session)->Describe().detached()) << "it is not prepared yet";
    ASSERT_TRUE((*session)->Prepare(kXid, nullptr).ok());
    EXPECT_EQ((*session)->Describe().detached(), detach == Detach::kOn);
    EXPECT_EQ((*session)->holds_branch(), detach != Detach::kOn);
    std::vector<std::string> heard = server.Heard();
    if (detach != Detach::kMissing) {
      ASSERT_EQ(heard.size(), 4u);
      EXPECT_THAT(heard[1], HasSubstr("@@session.xa_detach_on_prepare")) << "asked for with PREPARE itself";
      heard.erase(heard.begin() + 1);
    }
    EXPECT_THAT(heard, ElementsAre(Xa("START"), Xa("END"), Xa("PREPARE")));
    EXPECT_TRUE((*session)->Commit(kXid).ok());
    EXPECT_FALSE((*session)->Describe().detached());
    EXPECT_TRUE((*session)->Close().ok());
  }
}

TEST(DetachWireTest, ASessionThatSwitchesItOffHoldsItsBranch) {
  PlayedMySql server(Detach::kOn);
  auto session = Prepared(&server, "SET SESSION xa_detach_on_prepare=OFF");
  EXPECT_FALSE(session->Describe().detached());
  EXPECT_TRUE(session->holds_branch());
  const BranchFinding finding = Finish(&server, TaskOf(*session, v1::DECISION_COMMIT));
  EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
  EXPECT_TRUE(session->Commit(kXid).ok());
}

TEST(DetachWireTest, WhatPrepareLetGoOfIsFinishedAtOnceWhateverItsSessionDoes) {
  for (const v1::Decision decision : {v1::DECISION_COMMIT, v1::DECISION_ROLLBACK}) {
    const bool commit = decision == v1::DECISION_COMMIT;
    PlayedMySql server(Detach::kOn);
    const auto session = Prepared(&server);
    const BranchFinding finding = Finish(&server, TaskOf(*session, decision));
    EXPECT_EQ(finding.evidence.outcome(), commit ? v1::BRANCH_OUTCOME_COMMITTED : v1::BRANCH_OUTCOME_ROLLED_BACK)
        << finding.evidence.detail();
    EXPECT_FALSE(finding.retry);
    EXPECT_EQ(finding.evidence.session(), v1::Evidence::SIGHTING_UNSPECIFIED) << "what it does is no matter";
    const std::string sessions = "SELECT ID FROM information_schema.PROCESSLIST";
    const std::string engine = "SHOW ENGINE INNODB STATUS";  // Would it say that the session has it all the same?
    EXPECT_THAT(server.Heard(),
                ElementsAre(sessions, engine, "XA RECOVER CONVERT XID", Xa(commit ? "COMMIT" : "ROLLBACK"), sessions,
                            engine, "XA RECOVER CONVERT XID"));
    EXPECT_EQ(session->Commit(kXid).outcome, XaOutcome::kUnknownXid);
  }
}

TEST(DetachWireTest, WhatASessionHoldsIsLeftToItUntilItIsGone) {
  for (const Detach detach : {Detach::kOff, Detach::kMissing}) {
    PlayedMySql server(detach);
    auto session = Prepared(&server);
    BranchTask task = TaskOf(*session, v1::DECISION_COMMIT);
    EXPECT_EQ(Finish(&server, task).evidence.outcome(), v1::BRANCH_OUTCOME_ATTACHED_ELSEWHERE);
    std::vector<std::string> heard = server.Heard();
    EXPECT_THAT(heard, Contains("SELECT ID FROM information_schema.PROCESSLIST"));
    EXPECT_THAT(heard, Contains("SHOW ENGINE INNODB STATUS"));
    EXPECT_THAT(heard, Each(Not(HasSubstr("COMMIT")))) << "within its lease";

    // Gone: it passes the barrier first, and the OK alone is no proof.
    const uint64_t id = session->connection_id();
    session->Abandon();
    server.WaitUntilGone(id);
    const BranchFinding finding = Finish(&server, task);
    EXPECT_EQ(finding.evidence.outcome(), v1::BRANCH_OUTCOME_UNSPECIFIED);
    EXPECT_THAT(finding.evidence.detail(), HasSubstr("proves nothing without a witness"));
    heard = server.Heard();
    const auto commit = std::find(heard.begin(), heard.end(), Xa("COMMIT"));
    ASSERT_NE(commit, heard.end());
    EXPECT_GE(std::count(heard.begin(), commit, "SHOW ENGINE INNODB STATUS"), 4) << absl::StrJoin(heard, "\n");
    EXPECT_EQ(server.lies(), 0);
  }
}

TEST(DetachWireTest, ASessionThatHoldsItPastItsLeaseIsEnded) {
  PlayedMySql server(Detach::kOff);
  auto session = Prepared(&server);
  BranchTask task = TaskOf(*session, v1::DECISION_ROLLBACK);
  task.lease_over = task.may_kill = true;
  Finish(&server, task);
  const std::vector<std::string> heard = server.Heard();
  EXPECT_THAT(heard,
              testing::IsSupersetOf({absl::StrCat("KILL CONNECTION ", session->connection_id()), Xa("ROLLBACK")}));
  EXPECT_LT(std::find(heard.begin(), heard.end(), absl::StrCat("KILL CONNECTION ", session->connection_id())),
            std::find(heard.begin(), heard.end(), Xa("ROLLBACK")));
  EXPECT_EQ(server.lies(), 0);
  session->Abandon();
}

// The player is no pushover: whoever does not wait is lied to.
TEST(DetachWireTest, WhoeverDoesNotWaitForInnoDbIsToldALie) {
  PlayedMySql server(Detach::kOff);
  auto session = Prepared(&server);
  auto other = MariaDbSession::Connect(server.options());
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ((*other)->Commit(kXid).outcome, XaOutcome::kUnknownXid);
  const uint64_t id = session->connection_id();
  session->Abandon();
  server.WaitUntilGone(id);
  EXPECT_TRUE((*other)->Commit(kXid).ok());
  EXPECT_EQ(server.lies(), 1);
}

}  // namespace
}  // namespace assent
