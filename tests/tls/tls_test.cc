// assentd behind TLS: the server's certificate, the clients' certificates, and who is turned away.
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "tests/fixtures/assentd.h"
#include "tests/fixtures/process.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

class TlsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<TempDir> dir = TempDir::Create("tls");
    ASSERT_TRUE(dir.ok()) << dir.status();
    dir_ = std::make_unique<TempDir>(*std::move(dir));
    // One self-signed certificate each is its own CA.
    MakeCertificate("server", "subjectAltName=DNS:localhost,IP:127.0.0.1");
    MakeCertificate("client", "subjectAltName=DNS:client");
    MakeCertificate("stranger", "subjectAltName=DNS:stranger");
  }

  void MakeCertificate(const std::string& name, const std::string& extension) {
    const absl::StatusOr<std::string> openssl = FindProgram("openssl");
    ASSERT_TRUE(openssl.ok()) << openssl.status();
    SpawnOptions options;
    options.output_path = dir_->path() + "/openssl.log";
    const absl::StatusOr<int> code =
        assent::Run({*openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                     "-days", "1", "-subj", absl::StrCat("/CN=", name), "-addext", extension, "-keyout",
                     Path(name + ".key"), "-out", Path(name + ".pem")},
                    options);
    ASSERT_TRUE(code.ok()) << code.status();
    ASSERT_EQ(*code, 0) << Read("openssl.log");
  }
  std::string Path(const std::string& name) const { return absl::StrCat(dir_->path(), "/", name); }
  std::string Read(const std::string& name) const {
    std::stringstream text;
    text << std::ifstream(Path(name)).rdbuf();
    return text.str();
  }

  // Begins a transaction over TLS, as `client` ("": without a certificate).
  absl::Status Begin(const Assentd& assentd, const std::string& client) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = Read("server.pem");
    if (!client.empty()) {
      tls.pem_private_key = Read(client + ".key");
      tls.pem_cert_chain = Read(client + ".pem");
    }
    ClientOptions options;
    options.credentials = grpc::SslCredentials(tls);
    options.call_patience = absl::Seconds(3);
    return Client(absl::StrCat("localhost:", assentd.port()), options).Begin().status();
  }

  std::unique_ptr<TempDir> dir_;
};

// What the fixture's own wait for "accepts calls" needs is only an open port.
TEST_F(TlsTest, ServerCertificate) {
  Assentd::Options options;
  options.extra = {"--tls-cert=" + Path("server.pem"), "--tls-key=" + Path("server.key")};
  absl::StatusOr<std::unique_ptr<Assentd>> assentd = Assentd::Start(options);
  ASSERT_TRUE(assentd.ok()) << assentd.status();
  EXPECT_TRUE(Begin(**assentd, "").ok());
  ClientOptions plaintext;
  plaintext.call_patience = absl::Seconds(1);
  EXPECT_EQ(ReasonOf(Client((*assentd)->address(), plaintext).Begin().status()), Reason::COORDINATOR_UNREACHABLE);
}

TEST_F(TlsTest, ClientCertificateIsRequired) {
  Assentd::Options options;
  options.extra = {"--tls-cert=" + Path("server.pem"), "--tls-key=" + Path("server.key"),
                   "--tls-client-ca=" + Path("client.pem")};
  absl::StatusOr<std::unique_ptr<Assentd>> assentd = Assentd::Start(options);
  ASSERT_TRUE(assentd.ok()) << assentd.status();
  EXPECT_TRUE(Begin(**assentd, "client").ok()) << (*assentd)->OutputTail();
  EXPECT_FALSE(Begin(**assentd, "stranger").ok());
  EXPECT_FALSE(Begin(**assentd, "").ok());
}

TEST_F(TlsTest, UnreadableCertificateIsSaidAtStart) {
  Assentd::Options options;
  options.extra = {"--tls-cert=/nowhere.pem", "--tls-key=" + Path("server.key")};
  const absl::Status status = Assentd::Start(options).status();
  EXPECT_NE(status.message().find("cannot read /nowhere.pem"), absl::string_view::npos) << status;
}

}  // namespace
}  // namespace assent
