// assentctl against a real coordinator: what it prints, where, and how it exits.
#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "google/protobuf/struct.pb.h"
#include "gtest/gtest.h"
#include "tests/assentctl/assentctl_test_base.h"
#include "tests/fixtures/private_mariadb.h"
#include "tests/fixtures/process.h"

namespace assent {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST_F(AssentctlTest, ListShowsStatesProgressAndWhy) {
  EXPECT_EQ(Ctl({"globals", "list"}), 0);
  EXPECT_EQ(out_, "GTRID  STATE  BRANCHES  CREATED  WHY\n");
  Begin("test-open-1", {"a", "b"});
  ASSERT_TRUE(stubs_->Prepared(VotesOf("test-open-1", {"b"})).ok());
  Begin("test-rolled-1", {});
  RollBack("test-rolled-1", "the customer left");
  EXPECT_EQ(Ctl({"globals", "list"}), 0);
  EXPECT_THAT(
      out_, AllOf(ContainsRegex("test-open-1 +ACTIVE +1/2 prepared +[0-9a-z ]+ +undecided; rolls back in [0-9]+[sm]\n"),
                  ContainsRegex("test-rolled-1 +ROLLED_BACK +0 +[0-9a-z ]+ +the customer left\n")));
  EXPECT_EQ(err_, "");
  EXPECT_EQ(Ctl({"globals", "list", "--state", "open"}), 0);
  EXPECT_THAT(out_, AllOf(HasSubstr("test-open-1"), Not(HasSubstr("test-rolled-1"))));
  EXPECT_EQ(Ctl({"globals", "list", "--state=rolled-back", "--state", "committed"}), 0);
  EXPECT_THAT(out_, AllOf(HasSubstr("test-rolled-1"), Not(HasSubstr("test-open-1"))));
  EXPECT_EQ(Ctl({"globals", "list", "--state", "ROLLED_BACK,Open"}), 0);
  EXPECT_THAT(out_, AllOf(HasSubstr("test-rolled-1"), HasSubstr("test-open-1")));
  EXPECT_EQ(Ctl({"globals", "list", "--state", "COMMITTING"}), 0);
  EXPECT_THAT(out_, Not(HasSubstr("-1")));
  EXPECT_EQ(Ctl({"globals", "list", "--limit", "1"}), 0);
  EXPECT_THAT(out_, AllOf(HasSubstr("test-rolled-1"), Not(HasSubstr("test-open-1"))));
  EXPECT_THAT(err_, HasSubstr("more follow"));
}

TEST_F(AssentctlTest, OutputThatCannotBeWrittenIsAnError) {
  for (const char* command : {"version", "--help", "globals list", "-o json globals list", "globals watch"}) {
    const std::string shell =
        absl::StrCat("timeout 30 ", program_, " --address=", daemon_->address(), " ", command, " 2>&1 >/dev/full");
    EXPECT_EQ(Shell("sh", {"-c", shell}), 1) << command;
    EXPECT_EQ(out_, "assentctl: cannot write the output\n") << command;
  }
}

TEST_F(AssentctlTest, ListAsJsonIsOneDocumentWithAllPages) {
  EXPECT_EQ(Ctl({"-o", "json", "globals", "list"}), 0);
  EXPECT_EQ(Json().fields().at("globals").list_value().values_size(), 0);
  for (int i = 0; i < 1005; ++i) Begin(absl::StrCat("test-g", i), {"a"});
  EXPECT_EQ(Ctl({"globals", "list", "--limit=0"}, {"ASSENTCTL_OUTPUT=json"}), 0);
  const google::protobuf::Struct listed = Json();
  ASSERT_EQ(listed.fields().at("globals").list_value().values_size(), 1005);
  const auto& newest = listed.fields().at("globals").list_value().values(0).struct_value().fields();
  EXPECT_EQ(newest.at("gtrid").string_value(), "test-g1004");
  EXPECT_EQ(newest.at("state").string_value(), "STATE_ACTIVE");
  EXPECT_EQ(Ctl({"-o", "json", "globals", "list", "--limit=1003"}), 0);
  EXPECT_EQ(Json().fields().at("globals").list_value().values_size(), 1003);
}

TEST_F(AssentctlTest, GetSaysHowWhoWhenAndWhyAndEachFailure) {
  Begin("test-g", {"a", "b"});
  ASSERT_TRUE(stubs_->Prepared(VotesOf("test-g", {"a"})).ok());
  v1::PreparedRequest votes = VotesOf("test-g", {"b"}, v1::VOTE_KIND_FAILED);
  votes.mutable_votes(0)->mutable_failure()->set_error_code(1213);
  votes.mutable_votes(0)->mutable_failure()->set_sqlstate("40001");
  votes.mutable_votes(0)->mutable_failure()->set_message("Deadlock \x1b[31mfound");
  ASSERT_TRUE(stubs_->Prepared(votes).ok());
  EXPECT_EQ(Ctl({"globals", "get", "test-g"}), 0);
  EXPECT_THAT(out_,
              AllOf(HasSubstr("State       ROLLING_BACK\n"),
                    HasSubstr("Outcome     in doubt: decided ROLLBACK, not yet proven for a, b\n"),
                    ContainsRegex("Decision    ROLLBACK at 20[0-9T:.-]+Z \\((now|[0-9]+s ago)\\)\n"),
                    HasSubstr("Decided by  a branch that failed, reported from ipv4:127.0.0.1:"),
                    HasSubstr("Why         branch 'b' on 'db' voted FAILED: 1213 (40001) Deadlock \\x1b[31mfound\n"),
                    ContainsRegex("a +db +PREPARED +PREPARED"), ContainsRegex("b +db +FAILED +FAILED .* 1213")));
  EXPECT_THAT(out_, Not(HasSubstr("\x1b")));
  ASSERT_TRUE(stubs_->Completed(CompletionsOf("test-g", {"a", "b"}, v1::Completion::RESULT_ROLLED_BACK)).ok());
  EXPECT_EQ(Ctl({"globals", "get", "test-g"}), 0);
  EXPECT_THAT(out_, AllOf(HasSubstr("Outcome     rolled back: every branch is proven rolled back\n"),
                          ContainsRegex("Ended       20[0-9T:.-]+Z ")));
  EXPECT_EQ(Ctl({"globals", "get", "test-g", "--output=json"}), 0);
  const google::protobuf::Struct json = Json();
  EXPECT_EQ(json.fields().at("outcome").string_value(), "OUTCOME_ROLLED_BACK");
  EXPECT_EQ(json.fields().at("global").struct_value().fields().at("cause").string_value(),
            "DECISION_CAUSE_BRANCH_FAILED");
}

TEST_F(AssentctlTest, WhatIsNotThereIsThreeAndBadIdsAreUsage) {
  EXPECT_EQ(Ctl({"globals", "get", "test-nobody"}), 3);
  EXPECT_EQ(out_, "");
  EXPECT_THAT(err_, HasSubstr("GLOBAL_NOT_FOUND"));
  EXPECT_EQ(Ctl({"globals", "watch", "test-nobody"}), 3);
  EXPECT_EQ(Ctl({"resources", "get", "nobody"}), 3);
  EXPECT_EQ(Ctl({"resources", "check", "nobody"}), 3);
  EXPECT_EQ(Ctl({"resources", "remove", "nobody"}), 3);
  for (const std::string& id : {std::string("\x1b[2J\x07"), std::string("a b"), std::string("\xff\xfe"),
                                std::string(65, 'x'), std::string("'; DROP TABLE x"), std::string("\xe2\x80\xae")}) {
    for (const std::vector<std::string>& command : {std::vector<std::string>{"globals", "get"},
                                                    {"globals", "watch"},
                                                    {"resources", "get"},
                                                    {"resources", "remove"}}) {
      std::vector<std::string> args = command;
      args.push_back(id);
      EXPECT_EQ(Ctl(args), 2);
      EXPECT_EQ(out_, "");
      EXPECT_THAT(err_, HasSubstr("must be 1 to 64 bytes"));
      for (const char c : err_) {
        ASSERT_TRUE(c == '\n' || (c >= 0x20 && c < 0x7f)) << testing::PrintToString(err_);
      }
    }
  }
}

TEST_F(AssentctlTest, WrongUsageIsTwo) {
  const std::pair<std::vector<std::string>, std::string> kWrong[] = {
      {{}, "subcommand is required"},
      {{"globals"}, "subcommand is required"},
      {{"frobnicate"}, "unknown argument 'frobnicate'"},
      {{"frob\x1b[2Jnicate"}, "unknown argument 'frob\\x1b[2Jnicate'"},
      {{"globals", "list", "--frob"}, "--frob"},
      {{"globals", "list", "--state", "sleepy"}, "sleepy"},
      {{"globals", "list", "--limit", "-1"}, "--limit"},
      {{"globals", "list", "--limit", "many"}, "--limit"},
      {{"globals", "get"}, "gtrid is required"},
      {{"globals", "get", "a", "b"}, "b"},
      {{"globals", "watch", "--interval", "0"}, "--interval"},
      {{"health", "--timeout", "soon"}, "--timeout"},
      {{"health", "-o", "xml"}, "xml"},
      {{"health", "--address", "127.0.0.1:1,127.0.0.1:2"}, "takes one address"},
      {{"health", "--tls-cert", "x"}, "--tls-cert and --tls-key go together"},
      {{"health", "--tls-ca", "/nowhere"}, "cannot read /nowhere"},
      {{"resources", "register", "x"}, "required"},
      {{"resources", "register", "x", "--address", "h:1", "--user", "u", "--engine", "oracle"}, "oracle"},
      {{"resources", "register", "x", "--address", "h:1", "--user", "\xff"}, "must be UTF-8"},
      {{"resources", "register", "x", "--address", "h:1", "--user", "u", "--password-env", "A", "--password-file", "B"},
       "excludes"},
      {{"resources", "register", "x", "--address", "h:1", "--user", "u", "--lease", "soon"}, "--lease"},
      {{"resources", "register", "x", "--user", "u"}, "--address is required"},
      {{"resources", "register", "x", "--address", "h:1"}, "--user is required"},
      {{"globals", "history"}, "gtrid is required"},
      {{"doctor", "a b"}, "must be 1 to 64 bytes"},
      {{"in-doubt", "--limit", "-1"}, "--limit"},
      {{"in-doubt", "--resource", "a b"}, "must be 1 to 64 bytes"},
      {{"recover", "orders"}, "unknown argument 'orders'"},
      {{"retry"}, "Exactly 1 option"},
      {{"retry", "g", "--all"}, "excludes"},
      {{"retry", "g", "--resource", "r"}, "excludes"},
      {{"retry", "--all", "--resource", "r"}, "excludes"},
      {{"resolve", "g", "--as", "committed", "--reason", "x"}, "bqual is required"},
      {{"resolve", "g", "b", "--as", "gone", "--reason", "x"}, "gone"},
      {{"resolve", "g", "b", "--as", "committed"}, "--reason is required"},
      {{"resolve", "g", "b", "--as", "committed", "--reason", " "}, "must say why"},
      {{"resolve", "g", "b", "--reason", "x"}, "--as is required"},
      {{"completion", "tcsh"}, "tcsh"},
  };
  for (const auto& wrong : kWrong) {
    EXPECT_EQ(Ctl(wrong.first), 2) << wrong.second;
    EXPECT_EQ(out_, "");
    EXPECT_THAT(err_, AllOf(StartsWith("assentctl: "), HasSubstr(wrong.second), HasSubstr("\n")));
  }
  EXPECT_EQ(Ctl({"health"}, {"ASSENTCTL_OUTPUT=xml"}), 2);
}

TEST_F(AssentctlTest, ResourcesAreRegisteredListedCheckedAndRemoved) {
  const std::vector<std::string> reg = {"resources", "register", "orders",          "--address",     "127.0.0.1:1",
                                        "--user",    "assent",   "--password-file", "/etc/hostname", "--no-witness"};
  EXPECT_EQ(Ctl(reg), 1);
  EXPECT_THAT(err_, HasSubstr("RESOURCE_UNREACHABLE"));
  std::vector<std::string> anyway = reg;
  anyway.push_back("--allow-unreachable");
  EXPECT_EQ(Ctl(anyway), 0);
  EXPECT_THAT(out_, AllOf(HasSubstr("Name        orders\n"), HasSubstr("Password    file /etc/hostname\n"),
                          HasSubstr("Witness     none\n"), ContainsRegex("reachable +ERROR +"), HasSubstr("→ ")));
  EXPECT_EQ(Ctl({"resources", "list"}), 0);
  EXPECT_THAT(out_, AllOf(HasSubstr("NAME"), ContainsRegex("orders +mariadb +127.0.0.1:1 +assent")));
  EXPECT_EQ(Ctl({"-o", "json", "resources", "list"}), 0);
  EXPECT_EQ(Json().fields().at("resources").list_value().values_size(), 2);
  EXPECT_EQ(Ctl({"resources", "get", "orders", "-o", "json"}), 0);
  EXPECT_EQ(Json().fields().at("resource").struct_value().fields().at("user").string_value(), "assent");
  EXPECT_EQ(Ctl({"resources", "check", "orders"}), 1);
  EXPECT_THAT(out_, HasSubstr("ERROR"));
  EXPECT_EQ(Ctl({"-o", "json", "resources", "check", "orders"}), 1);
  EXPECT_EQ(Json().fields().at("findings").list_value().values(0).struct_value().fields().at("severity").string_value(),
            "SEVERITY_ERROR");
  std::vector<std::string> other = anyway;
  other[6] = "somebody";
  EXPECT_EQ(Ctl(other), 1);
  EXPECT_THAT(err_, HasSubstr("RESOURCE_EXISTS"));
  other.push_back("--replace");
  EXPECT_EQ(Ctl(other), 0);
  EXPECT_THAT(out_, ContainsRegex("\nCHANGED +BEFORE +NOW\nUser +assent +somebody\n\n"));
  EXPECT_EQ(Ctl({"resources", "get", "orders"}), 0);
  const std::string as_it_was = out_.substr(0, out_.find("Changed"));
  EXPECT_EQ(Ctl({"resources", "register", "orders", "--replace", "--allow-unreachable"}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("\nNothing of what was registered has changed.\n"));
  EXPECT_EQ(Ctl({"resources", "get", "orders"}), 0);
  EXPECT_THAT(out_, StartsWith(as_it_was)) << "flags that are not given are not reset";
  EXPECT_EQ(Ctl({"resources", "register", "orders", "--replace", "--allow-unreachable", "--witness", "--lease=5s",
                 "--no-kill-after-lease", "--password-env", "PATH"}),
            0)
      << err_;
  EXPECT_THAT(out_, ContainsRegex("\nCHANGED +BEFORE +NOW\n"
                                  "Password +file /etc/hostname +variable PATH\n"
                                  "Witness +none +assent.witness\n"
                                  "Lease +30s +5s\n"
                                  "Past lease +sessions are killed +sessions are left alone\n\n"));
  EXPECT_EQ(Ctl({"resources", "register", "orders", "--replace", "--allow-unreachable", "--kill-after-lease"}), 0);
  EXPECT_THAT(out_, AllOf(HasSubstr("Lease       5s\n"), HasSubstr("Past lease  sessions are killed\n")));
  EXPECT_EQ(Ctl({"resources", "register", "nobody", "--replace"}), 3);
  EXPECT_THAT(err_, HasSubstr("RESOURCE_NOT_FOUND"));
  Begin("test-g", {"a"});  // On "db".
  EXPECT_EQ(Ctl({"resources", "remove", "db"}), 1);
  EXPECT_THAT(err_, HasSubstr("RESOURCE_IN_USE"));
  EXPECT_EQ(Ctl({"resources", "remove", "orders"}), 0);
  EXPECT_EQ(out_, "orders removed\n");
  EXPECT_EQ(Ctl({"resources", "get", "orders"}), 3);
}

TEST_F(AssentctlTest, DoctorChecksOneSomeOrAllAndOneThatIsBadIsEnough) {
  auto server = PrivateMariaDb::Start();
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(RegisterServer("orders", **server, {"--lease=45s", "--orphan-age=90s", "--no-kill-after-lease"}), 0)
      << err_;
  EXPECT_EQ(Ctl({"resources", "get", "orders"}), 0);
  EXPECT_THAT(out_, AllOf(HasSubstr("Lease       45s\n"), HasSubstr("Orphan age  1m30s\n"),
                          HasSubstr("Past lease  sessions are left alone\n")));
  EXPECT_EQ(Ctl({"doctor", "orders"}), 0) << out_ << err_;
  EXPECT_THAT(out_, AllOf(StartsWith("orders"), ContainsRegex("\nreachable +OK "), ContainsRegex("\nprivileges +OK "),
                          ContainsRegex("\nlock_wait +WARNING .*\n +→ SET GLOBAL lock_wait_timeout = 50;"),
                          ContainsRegex("\n1 resource: 0 errors, 1 warning\n$")));
  EXPECT_EQ(Ctl({"doctor"}), 1) << "db is not there";
  EXPECT_THAT(out_, AllOf(StartsWith("db"), HasSubstr("\norders"), ContainsRegex("\nreachable +ERROR "),
                          ContainsRegex("\n2 resources: [1-9] errors?, ")));
  EXPECT_EQ(Ctl({"doctor", "-o", "json"}), 1);
  const google::protobuf::Struct json = Json();
  ASSERT_EQ(json.fields().at("resources").list_value().values_size(), 2);
  const auto& orders = json.fields().at("resources").list_value().values(1).struct_value().fields();
  EXPECT_EQ(orders.at("resource").string_value(), "orders");
  EXPECT_GT(orders.at("check").struct_value().fields().at("findings").list_value().values_size(), 10);
  EXPECT_EQ(Ctl({"doctor", "orders", "nobody"}), 3);
  EXPECT_THAT(err_, HasSubstr("RESOURCE_NOT_FOUND"));
  // What the coordinator cannot even try is a finding, too.
  ASSERT_EQ(unlink(PasswordFile("orders").c_str()), 0);
  EXPECT_EQ(Ctl({"doctor", "orders"}), 1);
  EXPECT_THAT(out_, ContainsRegex("\ncheck +ERROR .*cannot read a password"));
}

TEST_F(AssentctlTest, HealthAndWhoDoesNotAnswer) {
  EXPECT_EQ(Ctl({"health"}), 0);
  EXPECT_EQ(out_, "SERVING\n");
  EXPECT_EQ(Ctl({"health", "-o", "json"}), 0);
  EXPECT_EQ(Json().fields().at("status").string_value(), "SERVING");
  // A flag beats the environment.
  EXPECT_EQ(Ctl({"--address", daemon_->address(), "health"}, {"ASSENTCTL_ADDRESS=127.0.0.1:1"}), 0);
  daemon_->Kill9();
  for (const char* command :
       {"health", "globals list", "globals get g", "globals watch", "globals history g", "resources list", "doctor",
        "in-doubt", "recover", "retry --all", "resolve g b --as committed --reason x"}) {
    EXPECT_EQ(Ctl(absl::StrSplit(command, ' ')), 4) << command;
    EXPECT_EQ(out_, "");
    EXPECT_THAT(err_, AllOf(StartsWith("assentctl: the coordinator at 127.0.0.1:"), HasSubstr("does not answer"),
                            HasSubstr("ASSENTCTL_ADDRESS")));
    EXPECT_EQ(std::count(err_.begin(), err_.end(), '\n'), 1) << err_;  // Nothing of gRPC's own.
  }
  // Somebody who accepts and says nothing: the timeout.
  EXPECT_EQ(Ctl({"--timeout=300ms", "health"}, {"ASSENTCTL_ADDRESS=192.0.2.1:7411"}), 4);
}

TEST_F(AssentctlTest, WatchSaysEachChangeUntilTheEndAndOutlivesARestart) {
  Begin("test-g", {"a"});
  int code = -1;
  std::thread watcher([&] { code = Ctl({"globals", "watch", "test-g", "--interval", "10ms"}); });
  const std::string watched = absl::StrCat(folder_->path(), "/run1.out");
  const auto await = [&](const std::string& text) {
    for (int i = 0; i < 3000 && !absl::StrContains(ReadAll(watched), text); ++i) absl::SleepFor(absl::Milliseconds(10));
  };
  await("ACTIVE  0/1 prepared");
  ASSERT_TRUE(stubs_->Prepared(VotesOf("test-g", {"a"})).ok());
  await("ACTIVE  1/1 prepared");
  ASSERT_TRUE(daemon_->Restart().ok());
  Connect();
  ASSERT_TRUE(stubs_->Finalize(FinalizeOf("test-g", v1::DECISION_COMMIT)).ok());
  await("COMMITTING  0/1 committed");
  ASSERT_TRUE(stubs_->Completed(CompletionsOf("test-g", {"a"})).ok());
  watcher.join();
  EXPECT_EQ(code, 0);
  EXPECT_THAT(out_, ContainsRegex("ACTIVE  0/1 prepared(.|\n)*ACTIVE  1/1 prepared(.|\n)*COMMITTING  0/1 "
                                  "committed(.|\n)*COMMITTED  1  a Finalize call from"));
  EXPECT_EQ(Ctl({"globals", "watch", "test-g", "-o", "json"}), 0);
  EXPECT_EQ(std::count(out_.begin(), out_.end(), '\n'), 1);
  EXPECT_EQ(Json().fields().at("outcome").string_value(), "OUTCOME_COMMITTED");
}

TEST_F(AssentctlTest, WatchWithoutAGtridShowsTheUnfinishedOnes) {
  Begin("test-open-1", {"a"});
  Begin("test-rolled-1", {});
  RollBack("test-rolled-1", "");
  EXPECT_EQ(Ctl({"globals", "watch", "--rounds", "2", "--interval", "10ms"}), 0);
  EXPECT_THAT(out_, AllOf(ContainsRegex("1 unfinished\n(.|\n)*test-open-1(.|\n)*1 unfinished\n(.|\n)*test-open-1"),
                          Not(HasSubstr("test-rolled-1")), Not(HasSubstr("\x1b"))));
}

TEST_F(AssentctlTest, InstancesNamesTheOnesThatLive) {
  for (int i = 0; i < 100 && !absl::StrContains(out_, " db\n"); ++i) {  // It takes up what was registered just now.
    ASSERT_EQ(Ctl({"instances"}), 0) << err_;
  }
  EXPECT_THAT(out_, ContainsRegex(absl::StrCat("1 +", daemon_->address(), " +yes +1 +[0-9.]+ +0 .* db\n")));
  ASSERT_EQ(Ctl({"instances", "--output", "json"}), 0) << err_;
  const google::protobuf::Struct json = Json();
  const auto& instance = json.fields().at("instances").list_value().values(0).struct_value().fields();
  EXPECT_EQ(instance.at("address").string_value(), daemon_->address());
  EXPECT_TRUE(instance.at("alive").bool_value());
  EXPECT_EQ(Ctl({"instances", "everybody"}), 2);
  daemon_->Kill9();
  EXPECT_EQ(Ctl({"--timeout=2s", "instances"}), 4);
}

TEST_F(AssentctlTest, VersionAndHelp) {
  EXPECT_EQ(Ctl({"version"}), 0);
  EXPECT_THAT(out_, StartsWith("assentctl 0."));
  EXPECT_EQ(Ctl({"version", "-o", "json"}), 0);
  EXPECT_THAT(Json().fields().at("version").string_value(), StartsWith("0."));
  for (const char* command :
       {"--help", "globals --help", "globals get -h", "resources register --help", "resolve --help", "in-doubt -h",
        "store -h", "store import --help", "store backup --help"}) {
    EXPECT_EQ(Ctl(absl::StrSplit(command, ' ')), 0);
    EXPECT_THAT(out_, AllOf(HasSubstr("Usage: assentctl"), HasSubstr("Exit codes: 0 done; 1 ")));
    EXPECT_EQ(err_, "");
  }
}

TEST_F(AssentctlTest, CompletionScriptsParseAndComplete) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    ASSERT_EQ(Ctl({"completion", shell}), 0);
    const std::string script = absl::StrCat(folder_->path(), "/completion.", shell);
    std::ofstream(script) << out_;
    if (!FindProgram(shell).ok()) continue;  // bash is everywhere.
    EXPECT_EQ(Shell(shell, {"-n", script}), 0) << out_;
  }
  const auto complete = [this](const std::string& words, int at) {
    EXPECT_EQ(Shell("bash", {"-c", absl::StrCat(". ", folder_->path(), "/completion.bash; COMP_WORDS=(", words,
                                                "); COMP_CWORD=", at, "; _assentctl; echo \"${COMPREPLY[*]}\"")}),
              0);
    return out_;
  };
  EXPECT_EQ(complete("assentctl gl", 1), "globals\n");
  EXPECT_THAT(complete("assentctl globals ''", 2), StartsWith("list get history watch"));
  EXPECT_EQ(complete("assentctl -o ''", 2), "table json\n");
  EXPECT_EQ(complete("assentctl -o json globals list --st", 5), "--state\n");
  EXPECT_EQ(complete("assentctl globals list --state ro", 4), "rolling-back rolled-back\n");
  EXPECT_EQ(complete("assentctl completion z", 2), "zsh\n");
  EXPECT_EQ(complete("assentctl resolve g b --as ''", 5), "committed rolled-back acknowledged\n");
  EXPECT_EQ(complete("assentctl resources register x --allow", 4), "--allow-unreachable\n");
}

TEST_F(AssentctlTest, TheDocumentationNamesEveryCommandOptionAndExitCode) {
  const std::string doc = ReadAll("docs/assentctl.md");
  ASSERT_EQ(Ctl({"completion", "fish"}), 0);
  int options = 0;
  for (absl::string_view line : absl::StrSplit(out_, '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    for (size_t i = 0; i + 1 < words.size(); ++i) {
      if (words[0] != "complete" || words[i] != "-l" || words[i + 1] == "help") continue;
      EXPECT_THAT(doc, HasSubstr("--" + words[i + 1]));
      ++options;
    }
  }
  EXPECT_GT(options, 15);
  for (const char* command :
       {"globals list",  "globals get",     "globals history",  "globals watch", "resources register", "resources list",
        "resources get", "resources check", "resources remove", "doctor",        "in-doubt",           "recover",
        "retry",         "resolve",         "instances",        "store export",  "store import",       "store verify",
        "store backup",  "health",          "version",          "completion"}) {
    EXPECT_THAT(doc, HasSubstr(absl::StrCat("    assentctl ", command)));
  }
  for (int code = 0; code <= 4; ++code) EXPECT_THAT(doc, HasSubstr(absl::StrCat("\n| ", code, " | ")));
}

}  // namespace
}  // namespace assent
