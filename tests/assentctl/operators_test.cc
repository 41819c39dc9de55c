// What an operator does about branches in doubt, with the real programs and a real database.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "resource_manager/mariadb_session.h"
#include "resource_manager/witness_table.h"
#include "tests/assentctl/assentctl_test_base.h"
#include "tests/fixtures/private_mariadb.h"

namespace assent {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kResource[] = "orders";

class OperatorsTest : public AssentctlTest {
 protected:
  void SetUp() override {
    auto started = PrivateMariaDb::Start();
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
    daemon_options_.extra = {"--sweep-interval=500ms"};
    AssentctlTest::SetUp();
    // "db" is never there; these tests are about one that is.
    ASSERT_EQ(Ctl({"resources", "remove", "db"}), 0) << err_;
    admin_ = Connect();
    ASSERT_TRUE(Sql("CREATE DATABASE t; CREATE TABLE t.t (i INT PRIMARY KEY, v INT); INSERT INTO t.t VALUES (1, 0)"));
  }

  // No participant is disturbed before an hour has gone.
  void Register() { ASSERT_EQ(RegisterServer(kResource, *server_, {"--lease=1h", "--orphan-age=1h"}), 0) << err_; }

  std::unique_ptr<MariaDbSession> Connect() {
    ConnectOptions options;
    options.address.socket = server_->socket();
    options.user = server_->user();
    options.password = server_->password();
    auto session = MariaDbSession::Connect(options);
    EXPECT_TRUE(session.ok()) << session.status();
    return session.ok() ? *std::move(session) : nullptr;
  }

  bool Sql(const std::string& sql) {
    const QueryResult result = admin_->Query(sql);
    EXPECT_TRUE(result.ok()) << sql << ": " << result.error.code << " " << result.error.message;
    return result.ok();
  }

  // A branch that has changed row 1, is prepared on the session that is answered, and has voted.
  std::unique_ptr<MariaDbSession> Prepare(const Xid& xid) {
    v1::CreateGlobalRequest create = CreateOf(xid.gtrid, {});
    create.add_branches()->set_bqual(xid.bqual);
    create.mutable_branches(0)->set_resource(kResource);
    const auto created = stubs_->Create(create);
    EXPECT_TRUE(created.ok()) << created.status();
    if (!created.ok()) return nullptr;
    const auto witness = WitnessTable::Parse(created->global().branches(0).witness_table());
    EXPECT_TRUE(witness.ok()) << witness.status();
    std::unique_ptr<MariaDbSession> session = Connect();
    EXPECT_TRUE(session->Start(xid, "UPDATE t.t SET v = v + 1 WHERE i = 1").xa.ok());
    EXPECT_TRUE(session->Prepare(xid, &*witness).ok());
    const auto identity = session->Identity();
    EXPECT_TRUE(identity.ok()) << identity.status();
    v1::PreparedRequest votes = VotesOf(xid.gtrid, {xid.bqual});
    v1::Session* reported = votes.mutable_votes(0)->mutable_session();
    reported->set_server(identity->name);
    reported->set_connection_id(static_cast<int64_t>(session->connection_id()));
    SetTime(identity->start_time, reported->mutable_server_start_time());
    const auto voted = stubs_->Prepared(votes);
    EXPECT_TRUE(voted.ok()) << voted.status();
    return session;
  }

  void Decide(const std::string& gtrid, v1::Decision decision) {
    const auto decided = stubs_->Finalize(FinalizeOf(gtrid, decision));
    ASSERT_TRUE(decided.ok()) << decided.status();
  }

  // Runs the command until it says this.
  void Await(const std::vector<std::string>& args, const std::string& text) {
    for (int i = 0; i < 600; ++i) {
      Ctl(args);
      if (absl::StrContains(out_, text)) return;
      absl::SleepFor(absl::Milliseconds(100));
    }
    ADD_FAILURE() << "never said '" << text << "': " << out_ << err_;
  }

  // The prepared branch of a session that has gone, committed or rolled back by hand.
  void FinishByHand(std::unique_ptr<MariaDbSession> session, const Xid& xid, bool commit) {
    const std::string gone = absl::StrCat("SELECT 1 FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id = ",
                                          session->connection_id());
    session->Abandon();
    session.reset();
    // Away from the engine, too: or the server loses sight of it.
    for (int i = 0; i < 600 && !admin_->Query(gone).rows().empty(); ++i) absl::SleepFor(absl::Milliseconds(200));
    absl::SleepFor(absl::Milliseconds(200));
    ASSERT_TRUE(Sql(absl::StrCat(commit ? "XA COMMIT " : "XA ROLLBACK ", XidSqlLiteral(xid))));
  }

  std::unique_ptr<PrivateMariaDb> server_;
  std::unique_ptr<MariaDbSession> admin_;
};

TEST_F(OperatorsTest, NothingIsInDoubtAndNothingIsToBeDone) {
  EXPECT_EQ(Ctl({"in-doubt"}), 0);
  EXPECT_EQ(out_, "Nothing is in doubt.\n\nNo resources are registered.\n");
  EXPECT_EQ(Ctl({"recover"}), 0);
  EXPECT_EQ(Ctl({"doctor"}), 0);
  Register();
  Await({"in-doubt"}, "The one resource is well.");
  EXPECT_EQ(Ctl({"in-doubt", "--locks", "--exit-code", "--resource", kResource}), 0);
  EXPECT_THAT(out_, AllOf(StartsWith("Nothing is in doubt.\n"), HasSubstr("No session waits for a lock of a branch.")));
  EXPECT_EQ(Ctl({"recover", "--resource", kResource}), 0) << err_;
  EXPECT_THAT(out_, StartsWith("orders: OK; no ghosts\nnothing is prepared"));
  EXPECT_EQ(Ctl({"retry", "--all"}), 0);
  EXPECT_EQ(out_, "nothing waits for another try\n");
  for (const char* command : {"in-doubt --resource nobody", "recover --resource nobody", "retry --resource nobody",
                              "retry test-nobody", "resolve test-nobody b --as committed --reason x"}) {
    EXPECT_EQ(Ctl(absl::StrSplit(command, ' ')), 3) << command;
    EXPECT_THAT(err_, HasSubstr("_NOT_FOUND")) << command;
    EXPECT_EQ(out_, "");
  }
}

TEST_F(OperatorsTest, ABranchThatIsHeldIsShownWithItsLocksAndFinishedOnceItIsLetGo) {
  Register();
  const Xid xid{"test-held", "b1"};
  std::unique_ptr<MariaDbSession> holder = Prepare(xid);
  Decide(xid.gtrid, v1::DECISION_COMMIT);
  Await({"in-doubt"}, "ATTACHED_ELSEWHERE");
  EXPECT_THAT(out_, AllOf(StartsWith("1 branch of 1 transaction is in doubt; no alarm.\n"),
                          ContainsRegex("test-held +b1 +orders +COMMIT +PREPARED +ATTACHED_ELSEWHERE +"),
                          HasSubstr(absl::StrCat("ran in session ", holder->connection_id(), " on "))));
  EXPECT_EQ(Ctl({"in-doubt", "--exit-code"}), 0) << "not yet an alarm";
  std::unique_ptr<MariaDbSession> waiter = Connect();
  waiter->SendQuery("UPDATE t.t SET v = v + 10 WHERE i = 1");
  Await({"in-doubt", "--locks"}, absl::StrCat("\n", waiter->connection_id()));
  EXPECT_THAT(out_, ContainsRegex(absl::StrCat("\n", waiter->connection_id(), " +root +[0-9]+s +t.t +PRIMARY +",
                                               holder->connection_id(), " +test-held +b1\n")));
  EXPECT_EQ(Ctl({"-o", "json", "in-doubt", "--locks"}), 0);
  EXPECT_EQ(Json().fields().at("lockWaits").list_value().values_size(), 1);
  EXPECT_EQ(Ctl({"retry", "test-held"}), 0);
  EXPECT_EQ(out_, "1 branch is tried now\n");
  EXPECT_EQ(Ctl({"resolve", "test-held", "b1", "--as", "rolled-back", "--reason", "x", "--yes"}), 1)
      << "its session lives";
  EXPECT_THAT(err_, HasSubstr("RESOLUTION_REFUSED"));
  holder->Abandon();
  Await({"in-doubt"}, "Nothing is in doubt.");
  EXPECT_TRUE(waiter->ReceiveQuery().ok());
  EXPECT_EQ(Ctl({"globals", "get", "test-held"}), 0);
  EXPECT_THAT(out_, AllOf(HasSubstr("Outcome     committed: every branch is proven committed\n"),
                          ContainsRegex("\nb1 +20[^ ]+ \\([^)]+\\) +COMMITTED +.*witness present"),
                          ContainsRegex(" DECIDED +"), ContainsRegex(" RECOVERED +COMMITTED +the coordinator +")));
  EXPECT_EQ(Ctl({"globals", "history", "test-held", "-o", "json"}), 0);
  EXPECT_GE(Json().fields().at("history").list_value().values_size(), 4);
}

TEST_F(OperatorsTest, RecoverSaysWhoseEachXidIsAndTouchesNothingWhenItOnlyLooks) {
  Register();
  std::unique_ptr<MariaDbSession> orphan = Connect(), foreign = Connect();
  ASSERT_TRUE(orphan->Start({"test-orphan", "b1"}).xa.ok());
  ASSERT_TRUE(orphan->Query("INSERT INTO t.t VALUES (2, 0)").ok());
  ASSERT_TRUE(orphan->Prepare({"test-orphan", "b1"}, nullptr).ok());
  ASSERT_TRUE(foreign
                  ->Query("XA START 'other-1','b9',7; INSERT INTO t.t VALUES (3, 0); XA END 'other-1','b9',7;"
                          "XA PREPARE 'other-1','b9',7")
                  .ok());
  const Xid xid{"test-held", "b1"};
  std::unique_ptr<MariaDbSession> holder = Prepare(xid);
  Decide(xid.gtrid, v1::DECISION_COMMIT);
  Await({"in-doubt"}, "test-held");
  for (const char* mode : {"--dry-run", ""}) {
    std::vector<std::string> args = {"recover", "--resource", kResource};
    if (*mode != 0) args.push_back(mode);
    EXPECT_EQ(Ctl(args), 0) << err_;
    EXPECT_THAT(out_, AllOf(HasSubstr(*mode != 0 ? "WOULD BE DONE" : "  DONE"),
                            ContainsRegex("OURS +test-held +b1 +COMMITTING +COMMIT +ATTACHED_ELSEWHERE"),
                            ContainsRegex("ORPHAN +test-orphan +b1 +no record .*1h"),
                            ContainsRegex("FOREIGN \\(format 7\\) +other-1 +b9 +no record")));
  }
  EXPECT_TRUE(holder->Commit(xid).ok()) << "nobody has touched it";
  EXPECT_TRUE(orphan->Rollback({"test-orphan", "b1"}).ok());
  EXPECT_TRUE(foreign->Query("XA ROLLBACK 'other-1','b9',7").ok());
  server_->Kill9();
  EXPECT_EQ(Ctl({"recover"}), 1);
  EXPECT_THAT(out_, StartsWith("orders: UNREACHABLE: "));
  EXPECT_EQ(Ctl({"in-doubt", "--locks"}), 0);
  EXPECT_THAT(out_,
              AllOf(HasSubstr("Who waits for locks on orders is not known: "), Not(HasSubstr("o session waits"))));
  Await({"doctor"}, "recovery");
  EXPECT_THAT(out_,
              AllOf(ContainsRegex("\nrecovery +ERROR +UNREACHABLE since "), ContainsRegex("\nreachable +ERROR ")));
}

TEST_F(OperatorsTest, AContradictionIsAnAlarmUntilAnOperatorAcknowledgesIt) {
  Register();
  const Xid xid{"test-hand", "b1"};
  FinishByHand(Prepare(xid), xid, /*commit=*/true);
  Decide(xid.gtrid, v1::DECISION_ROLLBACK);
  Await({"in-doubt"}, "HEURISTIC_COMMITTED");
  EXPECT_THAT(out_, AllOf(HasSubstr("1 alarm.\n"), ContainsRegex("\nALARM +20[^\n]* test-hand +b1 +orders +ROLLBACK "),
                          HasSubstr("never by itself")));
  EXPECT_EQ(Ctl({"in-doubt", "--exit-code"}), 1);
  EXPECT_EQ(Ctl({"globals", "get", "test-hand"}), 0);
  EXPECT_THAT(out_, HasSubstr("in doubt: somebody finished b1 against the decision"));

  const std::vector<std::string> resolve = {
      "resolve", "test-hand", "b1", "--as", "acknowledged", "--reason", "ticket 4711: refunded by hand"};
  typed_ = "no\n";
  EXPECT_EQ(Ctl(resolve), 1);
  EXPECT_THAT(out_, AllOf(HasSubstr("Branch      b1 on orders\n"), HasSubstr("transaction HEURISTIC\n"),
                          HasSubstr("Then        branch HEURISTIC_COMMITTED, acknowledged; transaction "
                                    "HEURISTIC_CLOSED\n")));
  EXPECT_THAT(err_, HasSubstr("nothing was declared"));
  EXPECT_EQ(Ctl({"in-doubt", "--exit-code"}), 1) << "nothing has changed";
  typed_ = "yes\n";
  EXPECT_EQ(Ctl(resolve), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("declared: branch HEURISTIC_COMMITTED, acknowledged; transaction HEURISTIC_CLOSED\n"));
  EXPECT_EQ(Ctl({"in-doubt", "--exit-code"}), 0);
  EXPECT_THAT(out_, StartsWith("Nothing is in doubt.\n"));
  EXPECT_EQ(Ctl({"globals", "get", "test-hand"}), 0);
  EXPECT_THAT(out_, HasSubstr("Outcome     mixed: b1 ended against the decision ROLLBACK"));
  EXPECT_EQ(Ctl({"globals", "history", "test-hand"}), 0);
  EXPECT_THAT(out_,
              ContainsRegex(" RESOLVED +HEURISTIC_CLOSED +ipv4:127.0.0.1:[0-9]+ +.*ticket 4711: refunded by hand"));
  EXPECT_EQ(Ctl({"globals", "list", "--state", "heuristic-closed"}), 0);
  EXPECT_THAT(out_, HasSubstr("test-hand"));
  EXPECT_EQ(Ctl({"globals", "watch", "test-hand"}), 0) << "nothing more will happen";
  EXPECT_EQ(Ctl(resolve), 1) << "it is not in doubt any more";
  EXPECT_THAT(err_, HasSubstr("RESOLUTION_REFUSED"));
}

TEST_F(OperatorsTest, AnotherServerIsRefusedUntilItIsAccepted) {
  Register();
  auto other = PrivateMariaDb::Start();
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(RegisterServer(kResource, **other, {"--replace"}), 1);
  EXPECT_THAT(err_, HasSubstr("RESOURCE_QUARANTINED"));
  EXPECT_EQ(RegisterServer(kResource, **other, {"--replace", "--accept-server"}), 0) << err_;
  EXPECT_THAT(out_, ContainsRegex(absl::StrCat("Server +[^ ]*:", (*other)->port(), "\n")));
}

}  // namespace
}  // namespace assent
