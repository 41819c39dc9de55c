// assentd as a program: settings, exit codes, signals, restarts, deadlines, health, logs.
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/timestamp.h"
#include "gmock/gmock.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"
#include "tests/daemon/daemon_test_base.h"
#include "tests/fixtures/process.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// --- The command line -----------------------------------------------------------------------------------------------

class CommandLineTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<TempDir> folder = TempDir::Create("assentd-");
    ASSERT_TRUE(folder.ok()) << folder.status();
    folder_ = std::make_unique<TempDir>(*std::move(folder));
    const absl::StatusOr<std::string> program = FindBuiltProgram("coordinator/assentd");
    ASSERT_TRUE(program.ok()) << program.status();
    program_ = *program;
  }

  // Runs it to its end. What it said is in output_.
  int RunAssentd(const std::vector<std::string>& flags, const std::vector<std::string>& environment = {}) {
    std::vector<std::string> argv = {"/usr/bin/env"};
    argv.insert(argv.end(), environment.begin(), environment.end());
    argv.push_back(program_);
    argv.insert(argv.end(), flags.begin(), flags.end());
    SpawnOptions options;
    options.output_path = absl::StrCat(folder_->path(), "/output", ++runs_);
    const absl::StatusOr<int> code = assent::Run(argv, options);
    std::ifstream file(options.output_path);
    std::stringstream text;
    text << file.rdbuf();
    output_ = text.str();
    return code.ok() ? *code : -1;
  }

  std::string File(const std::string& name, const std::string& text) {
    const std::string path = folder_->path() + "/" + name;
    std::ofstream(path) << text;
    return path;
  }

  std::unique_ptr<TempDir> folder_;
  std::string program_;
  std::string output_;
  int runs_ = 0;
};

TEST_F(CommandLineTest, FlagBeatsEnvironmentBeatsFile) {
  const std::string config = File("assentd.toml",
                                  "cluster = \"file\"\n"
                                  "default-timeout = \"3s\"\n"
                                  "max-open-globals = 3\n");
  ASSERT_EQ(RunAssentd({"--print-config", "--config=" + config, "--cluster=flag"},
                       {"ASSENTD_CLUSTER=environment", "ASSENTD_DEFAULT_TIMEOUT=2s"}),
            0);
  EXPECT_THAT(output_, AllOf(HasSubstr("cluster = \"flag\"  # the command line\n"),
                             HasSubstr("default-timeout = \"2s\"  # the environment\n"),
                             HasSubstr("max-open-globals = \"3\"  # "), HasSubstr("assentd.toml line 3\n"),
                             HasSubstr("listen = \"127.0.0.1:7411\"  # default\n")));
}

TEST_F(CommandLineTest, UnknownKeysEndItWithTwoAndASuggestion) {
  EXPECT_EQ(RunAssentd({"--clutser=x"}), 2);
  EXPECT_EQ(output_, "assentd: unknown setting --clutser in the command line; did you mean cluster?\n");
  EXPECT_EQ(RunAssentd({}, {"ASSENTD_LISTNE=x"}), 2);
  EXPECT_THAT(output_, HasSubstr("unknown setting ASSENTD_LISTNE in the environment; did you mean listen?"));
  EXPECT_EQ(RunAssentd({"--config=" + File("bad.toml", "\nstroe = 'x'\n")}), 2);
  EXPECT_THAT(output_, AllOf(HasSubstr("bad.toml line 2"), HasSubstr("did you mean store?")));
}

TEST_F(CommandLineTest, CheckConfigFindsWhatOneSettingAloneDoesNotShow) {
  const std::string store = "--store=" + folder_->path() + "/never-made.db";
  EXPECT_EQ(RunAssentd({"--check-config", store}), 0);
  EXPECT_EQ(output_, "ok\n");
  EXPECT_FALSE(std::filesystem::exists(folder_->path() + "/never-made.db"));
  const std::pair<std::vector<std::string>, std::string> kBad[] = {
      {{"--cluster=a-b"}, "cluster must be 1 to 32 bytes"},
      {{"--cluster="}, "cluster must be 1 to 32 bytes"},
      {{"--store=mysql://host/db"}, "store 'mysql://…' is not supported"},
      {{"--store="}, "store must not be empty"},
      {{"--store=mariadb://a@h/d", "--listen=0.0.0.0:7411", "--insecure"}, "advertise must say where"},
      {{"--retention=59m"}, "retention must be at least 1h, or 0s"},
      {{"--tls-cert=x"}, "tls-cert and tls-key go together"},
      {{"--tls-cert=/nowhere.pem", "--tls-key=/nowhere.key"}, "cannot read /nowhere.pem"},
      {{"--tls-client-ca=x"}, "tls-client-ca needs tls-cert and tls-key"},
      {{"--listen=0.0.0.0:7411"}, "is not a loopback address"},
      {{"--listen=[::]:7411"}, "is not a loopback address"},
      {{"--listen=127.example.com:7411"}, "is not a loopback address"},
      {{"--listen=127.0.0.1"}, "listen must be host:port"},
      {{"--listen=127.0.0.1:"}, "listen must be host:port"},
      {{"--listen=127.0.0.1:99999"}, "listen must be host:port"},
      {{"--listen=127.0.0.1:-1"}, "listen must be host:port"},
      {{"--listen=::1:7411"}, "listen must be host:port"},
      {{"--listen="}, "listen must be host:port"},
      {{"--default-timeout=25h"}, "default-timeout must not be longer than max-timeout"},
      {{"--log-level=loud"}, "must be one of debug, info, warning, error"},
      {{"--max-open-globals=0"}, "must be a whole number from 1"},
      {{"--drain-grace=-1s"}, "must be a duration"},
      {{"--config=/nowhere"}, "cannot read the file /nowhere"},
      {{"stray"}, "unexpected argument 'stray'"},
  };
  for (const auto& bad : kBad) {
    std::vector<std::string> flags = bad.first;
    flags.push_back("--check-config");
    EXPECT_EQ(RunAssentd(flags), 2) << bad.second;
    EXPECT_THAT(output_, AllOf(StartsWith("assentd: "), HasSubstr(bad.second)));
  }
  EXPECT_EQ(RunAssentd({"--check-config", "--listen=0.0.0.0:7411", "--insecure"}), 0);
}

TEST_F(CommandLineTest, AddressesAndCertificatesThatCannotBeUsedEndItWithFour) {
  const std::string store = "--store=" + folder_->path() + "/assent.db";
  for (const char* listen : {"192.0.2.1:7411", "127.0.0.300:7411", "unix:/nowhere/socket"}) {
    EXPECT_EQ(RunAssentd({store, "--insecure", absl::StrCat("--listen=", listen)}), 4) << listen;
    EXPECT_THAT(output_, HasSubstr(absl::StrCat("cannot listen on ", listen)));
  }
  EXPECT_EQ(RunAssentd({store, "--listen=127.0.0.1:0", "--tls-cert=/nowhere.pem", "--tls-key=/nowhere.key"}), 4);
  EXPECT_THAT(output_, HasSubstr("cannot read /nowhere.pem"));
  const std::string junk = File("junk.pem", "junk");
  EXPECT_EQ(RunAssentd({store, "--listen=127.0.0.1:0", "--tls-cert=" + junk, "--tls-key=" + junk}), 4);
}

TEST_F(CommandLineTest, TheSecondOnAPortIsRefused) {
  Assentd::Options options;
  absl::StatusOr<std::unique_ptr<Assentd>> first = Assentd::Start(options);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(RunAssentd({"--store=" + folder_->path() + "/assent.db", "--listen=" + (*first)->address()}), 4);
  EXPECT_THAT(output_, HasSubstr("the address is in use"));
}

TEST_F(CommandLineTest, EverySettingIsDocumentedWithItsDefault) {
  ASSERT_EQ(RunAssentd({"--print-config"}), 0);
  std::set<std::string> real;
  for (absl::string_view line : absl::StrSplit(output_, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> parts = absl::StrSplit(line, " = ");
    ASSERT_GE(parts.size(), 2u) << line;
    const std::string value(parts[1].substr(1, parts[1].rfind("\"  # ") - 1));
    real.insert(absl::StrCat("| `", parts[0], "` | ", value.empty() ? "none" : absl::StrCat("`", value, "`"), " |"));
  }
  std::set<std::string> documented;
  std::ifstream file("docs/configuration.md");
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, "| `")) continue;
    const std::vector<std::string> cells = absl::StrSplit(line, '|');
    ASSERT_EQ(cells.size(), 5u) << line;
    documented.insert(absl::StrCat("|", cells[1], "|", cells[2], "|"));
  }
  EXPECT_EQ(documented, real);
}

// --- Running --------------------------------------------------------------------------------------------------------

class AssentdTest : public DaemonTest {
 protected:
  v1::Global Stored(const std::string& gtrid) {
    const auto found = stubs_->Get(gtrid);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() ? found->global() : v1::Global();
  }
  void Begin(const std::string& gtrid, absl::Duration timeout = absl::Minutes(5)) {
    const auto created = stubs_->Create(CreateOf(gtrid, {"a"}, timeout));
    ASSERT_TRUE(created.ok()) << created.status();
  }
  // A socket to which connections can be made; whoever does hears nothing. Answers -1 if it cannot be had.
  static int ListenSilently(int* port) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd, 100) != 0 ||
        getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      return -1;
    }
    *port = ntohs(address.sin_port);
    return fd;
  }
  static v1::RegisterResourceRequest SilentResource(int port) {
    v1::RegisterResourceRequest request;
    request.mutable_resource()->set_name("silent");
    request.mutable_resource()->set_engine(v1::Resource::ENGINE_MARIADB);
    request.mutable_resource()->set_address(absl::StrCat("127.0.0.1:", port));
    request.mutable_resource()->set_user("u");
    return request;
  }
};

TEST_F(AssentdTest, SigtermAnswersWhoWaitsAndEndsWithZero) {
  StartDaemon();
  Begin("test-g");
  absl::Status waited;
  std::thread waiter(
      [&] { waited = stubs_->Prepared(VotesOf("test-g", {"a"}, v1::VOTE_KIND_PREPARED, v1::WAIT_DECIDED)).status(); });
  while (Stored("test-g").branches(0).state() != v1::Branch::STATE_PREPARED) absl::SleepFor(absl::Milliseconds(5));
  const absl::Time begin = absl::Now();
  EXPECT_EQ(*daemon_->Terminate(), 0);
  // Nothing was left to wait for: the grace (10 s) is not used up, although connections are still open.
  EXPECT_LT(absl::Now() - begin, absl::Seconds(3));
  waiter.join();
  EXPECT_EQ(ReasonName(waited), "SHUTTING_DOWN");
  EXPECT_TRUE(absl::IsUnavailable(waited));
  EXPECT_TRUE(IsRetryable(waited));
  EXPECT_THAT(daemon_->Output(), AllOf(HasSubstr("draining"), HasSubstr("drained")));
  // The vote was stored; the caller asks again and gets the decision.
  ASSERT_TRUE(daemon_->Restart().ok());
  Connect();
  EXPECT_EQ(Stored("test-g").branches(0).state(), v1::Branch::STATE_PREPARED);
  ASSERT_TRUE(stubs_->Finalize(FinalizeOf("test-g", v1::DECISION_COMMIT)).ok());
  const auto again = stubs_->Prepared(VotesOf("test-g", {"a"}, v1::VOTE_KIND_PREPARED, v1::WAIT_DECIDED));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->status().decision(), v1::DECISION_COMMIT);
}

// A check of a database that accepts the connection and says nothing takes longer than anybody wants to wait for.
TEST_F(AssentdTest, ASecondSignalEndsItAtOnce) {
  int port = 0;
  const int silent = ListenSilently(&port);
  ASSERT_GE(silent, 0);
  Assentd::Options options;
  options.extra = {"--drain-grace=1h"};
  StartDaemon(options);
  std::thread caller([&] { EXPECT_TRUE(absl::IsUnavailable(stubs_->Register(SilentResource(port)).status())); });
  const int connection = accept(silent, nullptr, nullptr);  // The check is on its way.
  EXPECT_GE(connection, 0);
  const absl::Time begin = absl::Now();
  daemon_->Signal(SIGTERM);
  EXPECT_TRUE(absl::IsDeadlineExceeded(daemon_->WaitForExit(absl::Milliseconds(500)).status()));
  daemon_->Signal(SIGTERM);
  const absl::StatusOr<int> code = daemon_->WaitForExit(absl::Seconds(30));
  ASSERT_TRUE(code.ok()) << code.status();
  EXPECT_EQ(*code, 130);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(3));
  caller.join();
  close(connection);
  close(silent);
}

TEST_F(AssentdTest, SilentDatabasesDoNotStallReadsOfFinishedTransactions) {
  int port = 0;
  const int silent = ListenSilently(&port);
  ASSERT_GE(silent, 0);
  StartDaemon();
  Begin("test-g");
  ASSERT_TRUE(stubs_->Finalize(FinalizeOf("test-g", v1::DECISION_ROLLBACK)).ok());
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&] { EXPECT_FALSE(stubs_->Register(SilentResource(port)).ok()); });
  }
  const int connection = accept(silent, nullptr, nullptr);
  EXPECT_GE(connection, 0);
  absl::SleepFor(absl::Milliseconds(300));  // Time for the others to take all threads that they can get.
  const absl::Time begin = absl::Now();
  Stored("test-g");
  const auto listed = stubs_->List(v1::ListGlobalsRequest());  // A read of the store, whatever is still in memory.
  EXPECT_TRUE(listed.ok() && listed->globals_size() == 1) << listed.status();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  daemon_->Kill9();
  for (std::thread& caller : callers) caller.join();
  close(connection);
  close(silent);
}

TEST_F(AssentdTest, TakesAsManyFilesAsItMayAndWarnsIfTheseAreFew) {
  Assentd::Options options;
  options.wrapper = {"/bin/sh", "-c", "ulimit -Sn 200; ulimit -Hn 1000; exec \"$@\"", "sh"};
  StartDaemon(options);
  std::ifstream limits(absl::StrCat("/proc/", daemon_->pid(), "/limits"));
  std::stringstream text;
  text << limits.rdbuf();
  EXPECT_THAT(text.str(), ContainsRegex("Max open files +1000 +1000 "));
  EXPECT_THAT(daemon_->Output(), HasSubstr("at most 1000 open files"));
}

TEST_F(AssentdTest, HealthTurnsNotServingWhenItDrains) {
  StartDaemon();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("assent.v1.CoordinatorService");
  const auto watch = stubs_->health()->Watch(&context, request);
  grpc::health::v1::HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  daemon_->Signal(SIGTERM);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  context.TryCancel();
  EXPECT_EQ(*daemon_->WaitForExit(absl::Seconds(30)), 0);
}

TEST_F(AssentdTest, HealthKnowsItsServicesAndNoOthers) {
  StartDaemon();
  for (const char* service : {"", "assent.v1.CoordinatorService", "assent.v1.ResourceService"}) {
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    const auto response = stubs_->Call(stubs_->health(), &grpc::health::v1::Health::StubInterface::Check, request);
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->status(), grpc::health::v1::HealthCheckResponse::SERVING);
  }
  grpc::health::v1::HealthCheckRequest other;
  other.set_service("nobody");
  EXPECT_TRUE(absl::IsNotFound(
      stubs_->Call(stubs_->health(), &grpc::health::v1::Health::StubInterface::Check, other).status()));
}

TEST_F(AssentdTest, Kill9LosesNoDecisionAndInventsNone) {
  StartDaemon();
  for (int round = 0; round < 5; ++round) {
    const auto id = [round](const char* what) { return absl::StrCat("test-", what, round); };
    for (const char* what : {"commit", "rollback", "undecided", "voted"}) Begin(id(what));
    ASSERT_TRUE(stubs_->Prepared(VotesOf(id("commit"), {"a"})).ok());
    ASSERT_TRUE(stubs_->Prepared(VotesOf(id("voted"), {"a"})).ok());
    ASSERT_TRUE(stubs_->Finalize(FinalizeOf(id("commit"), v1::DECISION_COMMIT)).ok());
    ASSERT_TRUE(stubs_->Finalize(FinalizeOf(id("rollback"), v1::DECISION_ROLLBACK)).ok());
    daemon_->Kill9();
    ASSERT_TRUE(daemon_->Restart().ok()) << daemon_->OutputTail();
    Connect();
    EXPECT_EQ(Stored(id("commit")).decision(), v1::DECISION_COMMIT);
    EXPECT_EQ(Stored(id("rollback")).decision(), v1::DECISION_ROLLBACK);
    EXPECT_EQ(Stored(id("undecided")).decision(), v1::DECISION_UNSPECIFIED);
    EXPECT_EQ(Stored(id("voted")).branches(0).state(), v1::Branch::STATE_PREPARED);
    // The same calls again get the same answers.
    EXPECT_TRUE(stubs_->Create(CreateOf(id("undecided"), {"a"})).ok());
    EXPECT_TRUE(stubs_->Finalize(FinalizeOf(id("commit"), v1::DECISION_COMMIT)).ok());
    EXPECT_EQ(ReasonName(stubs_->Finalize(FinalizeOf(id("rollback"), v1::DECISION_COMMIT)).status()),
              "GLOBAL_ROLLED_BACK");
  }
  ExpectNormalTransaction();
}

TEST_F(AssentdTest, DeadlinesRollBackWithinAFractionOfASecondAndSayWhy) {
  StartDaemon();
  for (const int ms : {50, 250, 1300}) {
    const std::string gtrid = absl::StrCat("test-g", ms);
    const absl::Time begin = absl::Now();
    Begin(gtrid, absl::Milliseconds(ms));
    const auto answer = stubs_->Prepared(VotesOf(gtrid, {}, v1::VOTE_KIND_PREPARED, v1::WAIT_DECIDED));
    const absl::Duration took = absl::Now() - begin;
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->status().decision(), v1::DECISION_ROLLBACK);
    EXPECT_EQ(answer->status().cause(), v1::DECISION_CAUSE_DEADLINE);
    EXPECT_THAT(answer->status().cause_detail(), HasSubstr(absl::StrCat("undecided after its timeout of ",
                                                                        absl::FormatDuration(absl::Milliseconds(ms)))));
    EXPECT_GE(took, absl::Milliseconds(ms));
    const v1::Global stored = Stored(gtrid);
    const absl::Duration late = GetTime(stored.decide_time()) - GetTime(stored.expire_time());
    EXPECT_GE(late, absl::ZeroDuration());
    EXPECT_LT(late, absl::Milliseconds(500));
    EXPECT_EQ(stored.decided_by(), "");
    EXPECT_EQ(ReasonName(stubs_->Finalize(FinalizeOf(gtrid, v1::DECISION_COMMIT)).status()), "GLOBAL_ROLLED_BACK");
  }
}

TEST_F(AssentdTest, ADeadlineThatPassedWhileItWasDownIsKeptAtTheStart) {
  StartDaemon();
  Begin("test-g", absl::Milliseconds(300));
  ASSERT_TRUE(stubs_->Prepared(VotesOf("test-g", {"a"})).ok());
  daemon_->Kill9();
  absl::SleepFor(absl::Milliseconds(400));
  ASSERT_TRUE(daemon_->Restart().ok());
  Connect();
  const auto answer = stubs_->Prepared(VotesOf("test-g", {}, v1::VOTE_KIND_PREPARED, v1::WAIT_DECIDED));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->status().cause(), v1::DECISION_CAUSE_DEADLINE);
}

TEST_F(AssentdTest, AWaitThatEndsFirstIsOkAndSaysHowFarItGot) {
  StartDaemon();
  Begin("test-g");
  const absl::Time begin = absl::Now();
  const auto answer =
      stubs_->Prepared(VotesOf("test-g", {"a"}, v1::VOTE_KIND_PREPARED, v1::WAIT_DECIDED), absl::Milliseconds(600));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_LT(absl::Now() - begin, absl::Milliseconds(600));
  EXPECT_EQ(answer->status().decision(), v1::DECISION_UNSPECIFIED);
  EXPECT_EQ(answer->status().state(), v1::Global::STATE_ACTIVE);
}

TEST_F(AssentdTest, JsonLogsAreOneObjectALine) {
  Assentd::Options options;
  options.extra = {"--log-format=json", "--log-level=debug"};
  StartDaemon(options);
  Begin("test-g");
  v1::FinalizeRequest finalize = FinalizeOf("test-g", v1::DECISION_ROLLBACK);
  finalize.set_reason("quotes \" and \n newlines ü");
  ASSERT_TRUE(stubs_->Finalize(finalize).ok());
  ASSERT_EQ(*daemon_->Terminate(), 0);
  int lines = 0;
  bool decided = false;
  for (absl::string_view line : absl::StrSplit(daemon_->Output(), '\n', absl::SkipEmpty())) {
    google::protobuf::Struct object;
    const auto status = google::protobuf::util::JsonStringToMessage(std::string(line), &object);
    ASSERT_TRUE(status.ok()) << line;
    for (const char* key : {"time", "severity", "source", "message"}) EXPECT_TRUE(object.fields().count(key)) << line;
    const std::string& message = object.fields().at("message").string_value();
    decided |= absl::StrContains(message, "gtrid=test-g decision=DECISION_ROLLBACK") &&
               absl::StrContains(message, finalize.reason());
    ++lines;
  }
  EXPECT_GE(lines, 3);
  EXPECT_TRUE(decided) << daemon_->Output();
}

TEST_F(AssentdTest, PasswordsAreNeitherStoredNorLogged) {
  constexpr char kSecret[] = "hunter2-very-secret";
  Assentd::Options options;
  options.extra = {"--log-level=debug"};
  options.environment = {absl::StrCat("DB_PASSWORD=", kSecret)};
  StartDaemon(options);
  v1::RegisterResourceRequest request;
  request.set_allow_unreachable(true);
  request.mutable_resource()->set_name("secret");
  request.mutable_resource()->set_engine(v1::Resource::ENGINE_MARIADB);
  request.mutable_resource()->set_address("127.0.0.1:1");
  request.mutable_resource()->set_user("u");
  request.mutable_resource()->set_password_env("DB_PASSWORD");
  const auto registered = stubs_->Register(request);
  ASSERT_TRUE(registered.ok()) << registered.status();
  EXPECT_THAT(registered->DebugString(), Not(HasSubstr(kSecret)));
  ASSERT_EQ(*daemon_->Terminate(), 0);
  EXPECT_THAT(daemon_->Output(), Not(HasSubstr(kSecret)));
  for (const auto& entry : std::filesystem::directory_iterator(daemon_->folder())) {
    std::ifstream file(entry.path(), std::ios::binary);
    std::stringstream bytes;
    bytes << file.rdbuf();
    EXPECT_THAT(bytes.str(), Not(HasSubstr(kSecret))) << entry.path();
  }
}

}  // namespace
}  // namespace assent
