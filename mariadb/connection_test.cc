// Connections to real servers with and without TLS.
#include "mariadb/connection.h"

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fixtures/private_mariadb.h"
#include "tests/fixtures/process.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

using testing::HasSubstr;

class ConnectionTest : public testing::Test {
 protected:
  void StartServer(std::vector<std::string> extra, v1::Resource::Engine engine = v1::Resource::ENGINE_MARIADB) {
    PrivateMariaDb::Options options;
    options.engine = engine;
    options.extra = std::move(extra);
    auto started = PrivateMariaDb::Start(std::move(options));
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
  }

  // The cipher in use ("" for plain text), or the error.
  absl::StatusOr<std::string> Cipher(const ConnectTls& tls) {
    ConnectOptions options;
    options.address.host = "127.0.0.1";
    options.address.port = server_->port();
    options.user = server_->user();
    options.password = server_->password();
    options.tls = tls;
    auto connection = MariaDbConnection::Connect(options);
    if (!connection.ok()) return connection.status();
    const QueryResult result = (*connection)->Query("SHOW SESSION STATUS LIKE 'Ssl_cipher'");
    return result.rows().empty() ? "?" : *result.rows()[0][1];
  }

  std::unique_ptr<PrivateMariaDb> server_;
};

ConnectTls Tls(bool required, bool verify) {
  ConnectTls tls;
  tls.required = required;
  tls.verify = verify;
  return tls;
}

// For 127.0.0.1, signed by itself.
void MakeCertificate(const std::string& key, const std::string& cert) {
  const absl::StatusOr<std::string> openssl = FindProgram("openssl");
  ASSERT_TRUE(openssl.ok()) << openssl.status();
  const absl::StatusOr<int> code = assent::Run(
      {*openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
       "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert},
      SpawnOptions());
  ASSERT_TRUE(code.ok()) << code.status();
  ASSERT_EQ(*code, 0);
}

TEST_F(ConnectionTest, WhereTlsIsRequiredAServerWithoutItIsRefused) {
  ASSERT_NO_FATAL_FAILURE(StartServer({"--skip-ssl"}));
  EXPECT_EQ(*Cipher(Tls(/*required=*/false, /*verify=*/false)), "");
  for (const bool verify : {true, false}) {
    const absl::Status status = Cipher(Tls(/*required=*/true, verify)).status();
    EXPECT_EQ(ReasonOf(status), Reason::DATABASE_UNREACHABLE) << verify << " " << status;
  }
  EXPECT_THAT(std::string(Cipher(Tls(/*required=*/true, /*verify=*/false)).status().message()),
              HasSubstr("TLS is required, but the server offers none"));
}

TEST_F(ConnectionTest, TlsIsUsedWhereItIsRequired) {
  const absl::StatusOr<TempDir> dir = TempDir::Create("connection");
  ASSERT_TRUE(dir.ok()) << dir.status();
  const std::string key = dir->path() + "/key.pem";
  const std::string cert = dir->path() + "/cert.pem";
  ASSERT_NO_FATAL_FAILURE(MakeCertificate(key, cert));
  ASSERT_NO_FATAL_FAILURE(StartServer({"--ssl-key=" + key, "--ssl-cert=" + cert, "--require-secure-transport=ON"}));
  const absl::StatusOr<std::string> believed = Cipher(Tls(/*required=*/true, /*verify=*/false));
  ASSERT_TRUE(believed.ok()) << believed.status();
  EXPECT_NE(*believed, "");
  EXPECT_EQ(ReasonOf(Cipher(Tls(/*required=*/true, /*verify=*/true)).status()), Reason::DATABASE_UNREACHABLE)
      << "nobody has signed it";
  ConnectTls known = Tls(/*required=*/true, /*verify=*/true);
  known.ca = cert;
  const absl::StatusOr<std::string> verified = Cipher(known);
  ASSERT_TRUE(verified.ok()) << verified.status();
  EXPECT_NE(*verified, "");
  EXPECT_FALSE(Cipher(Tls(/*required=*/false, /*verify=*/false)).ok()) << "the server wants it";
}

// caching_sha2_password: the server does not remember a new account, and asks for the password itself; then it does,
// and a proof of it will do.
TEST_F(ConnectionTest, MySqlsLoginWorksOverEveryWayThatIsSafe) {
  if (std::getenv("ASSENT_TEST_MYSQLD") == nullptr) GTEST_SKIP() << "set ASSENT_TEST_MYSQLD";
  const absl::StatusOr<TempDir> dir = TempDir::Create("connection");
  ASSERT_TRUE(dir.ok()) << dir.status();
  const std::string key = dir->path() + "/key.pem";
  const std::string cert = dir->path() + "/cert.pem";
  ASSERT_NO_FATAL_FAILURE(MakeCertificate(key, cert));
  ASSERT_NO_FATAL_FAILURE(StartServer({"--ssl-key=" + key, "--ssl-cert=" + cert}, v1::Resource::ENGINE_MYSQL));
  ConnectOptions local;
  local.address.socket = server_->socket();
  local.user = server_->user();
  local.password = server_->password();
  const auto forget = [&] {
    auto admin = MariaDbConnection::Connect(local);
    ASSERT_TRUE(admin.ok()) << admin.status();
    ASSERT_TRUE((*admin)->Query("FLUSH PRIVILEGES").ok());
  };
  ConnectTls known = Tls(/*required=*/true, /*verify=*/true);
  known.ca = cert;
  for (const ConnectTls& tls : {Tls(/*required=*/false, /*verify=*/false), known}) {
    ASSERT_NO_FATAL_FAILURE(forget());
    for (const char* memory : {"new", "remembered"}) {
      const absl::StatusOr<std::string> cipher = Cipher(tls);
      ASSERT_TRUE(cipher.ok()) << memory << " " << cipher.status();
      EXPECT_EQ(cipher->empty(), !tls.required);
    }
  }
  ConnectOptions wrong = local;
  wrong.password = "not it";
  EXPECT_EQ(ReasonOf(MariaDbConnection::Connect(wrong).status()), Reason::DATABASE_ERROR);
  // To an address that anybody could have, not even the proof is given.
  ConnectOptions far = local;
  far.address = Address{"0.0.0.0", server_->port(), ""};  // The same machine, but the rule does not know it.
  EXPECT_THAT(std::string(MariaDbConnection::Connect(far).status().message()),
              HasSubstr("connect with TLS that verifies"));
}

}  // namespace
}  // namespace assent
