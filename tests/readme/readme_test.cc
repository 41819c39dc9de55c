// Runs the C++ example of README.md, compiled from README.md itself, against a real assentd and two real servers.
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "base/address.h"
#include "gtest/gtest.h"
#include "resource_manager/mariadb_session.h"
#include "tests/fixtures/assentd.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/private_mariadb.h"
#include "tests/fixtures/process.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

class ReadmeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Assentd>> assentd = Assentd::Start();
    ASSERT_TRUE(assentd.ok()) << assentd.status();
    assentd_ = *std::move(assentd);
    absl::StatusOr<TempDir> dir = TempDir::Create("readme");
    ASSERT_TRUE(dir.ok()) << dir.status();
    dir_ = std::make_unique<TempDir>(*std::move(dir));
    StartServer("orders", "CREATE TABLE shop.orders (id INT PRIMARY KEY, what VARCHAR(20), price INT)", &orders_,
                &orders_session_);
    StartServer(
        "payments",
        "CREATE TABLE shop.accounts (id INT PRIMARY KEY, balance INT); INSERT INTO shop.accounts VALUES (1, 1000)",
        &payments_, &payments_session_);
  }

  void StartServer(const std::string& name, const std::string& schema, std::unique_ptr<PrivateMariaDb>* server,
                   std::unique_ptr<MariaDbSession>* session) {
    absl::StatusOr<std::unique_ptr<PrivateMariaDb>> started = PrivateMariaDb::Start();
    ASSERT_TRUE(started.ok()) << started.status();
    *server = *std::move(started);
    ConnectOptions options;
    options.address = *ParseAddress((*server)->unix_address());
    options.user = (*server)->user();
    options.password = (*server)->password();
    absl::StatusOr<std::unique_ptr<MariaDbSession>> connected = MariaDbSession::Connect(options);
    ASSERT_TRUE(connected.ok()) << connected.status();
    *session = *std::move(connected);
    const std::string password_file = dir_->path() + "/" + name;
    std::ofstream(password_file) << (*server)->password();
    const absl::Status registered =
        CoordinatorApi(assentd_->address())
            .RegisterMariaDb(name, (*server)->tcp_address(), (*server)->user(), password_file);
    ASSERT_TRUE(registered.ok()) << registered;
    // The application's account sees its own schema and may leave witnesses; it needs nothing else.
    const QueryResult created =
        (*session)->Query(absl::StrCat("CREATE DATABASE shop; ", schema,
                                       "; CREATE USER shop@'127.0.0.1'; GRANT ALL ON shop.* TO shop@'127.0.0.1'; "
                                       "GRANT INSERT ON assent.witness TO shop@'127.0.0.1'"));
    ASSERT_TRUE(created.ok()) << created.error.message;
  }

  // The exit code of the example; what it prints goes to *output.
  int RunExample(std::string* output) {
    const std::string out = dir_->path() + "/out";
    std::remove(out.c_str());
    SpawnOptions options;
    options.output_path = out;
    const std::string example = absl::StrCat(std::getenv("TEST_SRCDIR"), "/assent/tests/readme/readme_example");
    const absl::StatusOr<int> code =
        assent::Run({example, assentd_->address(), orders_->tcp_address(), payments_->tcp_address()}, options);
    EXPECT_TRUE(code.ok()) << code.status();
    std::stringstream text;
    text << std::ifstream(out).rdbuf();
    *output = text.str();
    return code.value_or(-1);
  }
  std::string One(MariaDbSession* session, const std::string& sql) {
    const QueryResult result = session->Query(sql);
    return result.ok() && !result.rows().empty() && result.rows()[0][0] ? *result.rows()[0][0] : "none";
  }

  std::unique_ptr<TempDir> dir_;
  std::unique_ptr<Assentd> assentd_;
  std::unique_ptr<PrivateMariaDb> orders_, payments_;
  std::unique_ptr<MariaDbSession> orders_session_, payments_session_;
};

TEST_F(ReadmeTest, ExampleCommitsAndASecondRunRollsBack) {
  std::string output;
  EXPECT_EQ(RunExample(&output), 0);
  EXPECT_EQ(output, "committed\n");
  EXPECT_EQ(One(orders_session_.get(), "SELECT what FROM shop.orders"), "laptop");
  EXPECT_EQ(One(payments_session_.get(), "SELECT balance FROM shop.accounts"), "200");

  // The order exists now: its INSERT fails, and with it the payment.
  EXPECT_EQ(RunExample(&output), 0);
  EXPECT_NE(output.find("1062"), std::string::npos) << output;
  EXPECT_EQ(One(payments_session_.get(), "SELECT balance FROM shop.accounts"), "200");
}

}  // namespace
}  // namespace assent
