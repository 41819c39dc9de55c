// What Prometheus reads of a running assentd, compared with docs/metrics.md and with what has happened.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/daemon/daemon_test_base.h"

namespace assent {
namespace {

// The answer to GET /metrics, head and body; empty if there is none.
std::string Scrape(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request = "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
    if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size())) {
      char buffer[4096];
      for (ssize_t size; (size = recv(fd, buffer, sizeof(buffer), 0)) > 0;) answer.append(buffer, size);
    }
  }
  close(fd);
  return answer;
}

class MetricsTest : public DaemonTest {
 protected:
  void SetUp() override {
    Assentd::Options options;
    options.extra = {"--metrics-listen=127.0.0.1:0"};
    ASSERT_NO_FATAL_FAILURE(StartDaemon(options));
    std::smatch port;
    const std::string output = daemon_->Output();
    ASSERT_TRUE(std::regex_search(output, port, std::regex("metrics_port=([0-9]+)"))) << output;
    port_ = std::stoi(port[1]);
  }
  // The value of a metric, its labels as they are served; -1 if it is not there.
  double Value(const std::string& name) {
    for (const absl::string_view line : absl::StrSplit(Scrape(port_), '\n')) {
      double value = -1;
      if (absl::StartsWith(line, name + " ") && absl::SimpleAtod(line.substr(name.size() + 1), &value)) return value;
    }
    return -1;
  }
  // The value once it is this one, or what it is after a while.
  double Await(const std::string& name, double wanted) {
    for (int i = 0; i < 150 && Value(name) != wanted; ++i) usleep(100000);
    return Value(name);
  }
  int port_ = 0;
};

TEST_F(MetricsTest, TellWhatHasHappened) {
  const double before = Value("assent_store_transitions_total");
  ASSERT_GE(before, 0);
  ASSERT_NO_FATAL_FAILURE(ExpectNormalTransaction());
  ASSERT_TRUE(stubs_->Create(CreateOf("test-open", {"a"})).ok());
  EXPECT_GE(Value("assent_store_transitions_total"), before + 4);
  EXPECT_GE(Value("assent_store_forced_groups_total"), 1);
  EXPECT_GE(Value("assent_store_groups_total"), Value("assent_store_forced_groups_total"));
  EXPECT_EQ(Value("assent_open_globals"), 1);
  EXPECT_EQ(Await("assent_store_open_records", 1), 1);
  EXPECT_GT(Value("assent_store_bytes"), 0);
  EXPECT_EQ(Value("assent_in_doubt_branches{resource=\"db\"}"), 0);
  // Decided, and nobody can finish it: its database is not there.
  ASSERT_TRUE(stubs_->Prepared(VotesOf("test-open", {"a"})).ok());
  ASSERT_TRUE(stubs_->Finalize(FinalizeOf("test-open", v1::DECISION_COMMIT)).ok());
  EXPECT_EQ(Await("assent_in_doubt_branches{resource=\"db\"}", 1), 1);
  EXPECT_GT(Value("assent_in_doubt_oldest_seconds{resource=\"db\"}"), 0);
  EXPECT_EQ(Value("assent_resource_state{resource=\"db\",state=\"unreachable\"}"), 1);
  EXPECT_EQ(Value("assent_resource_state{resource=\"db\",state=\"ok\"}"), 0);
}

TEST_F(MetricsTest, TheNamesAreThoseThatAreDocumented) {
  ASSERT_EQ(Await("assent_witnesses_waiting{resource=\"db\"}", 0), 0) << "the resource has been looked at";
  std::set<std::string> served;
  for (const absl::string_view line : absl::StrSplit(Scrape(port_), '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (words.size() != 4 || words[1] != "TYPE" || !absl::StartsWith(words[2], "assent_")) continue;
    served.insert(absl::StrCat("| `", words[2], "` | ", words[3], " |"));
  }
  std::set<std::string> documented;
  std::ifstream file("docs/metrics.md");
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, "| `")) continue;
    const std::vector<std::string> cells = absl::StrSplit(line, '|');
    documented.insert(absl::StrCat("|", cells[1], "|", cells[2], "|"));
  }
  EXPECT_EQ(documented, served);
}

TEST_F(MetricsTest, AnAddressThatIsTakenIsSaid) {
  Assentd::Options options;
  options.extra = {absl::StrCat("--metrics-listen=127.0.0.1:", port_)};
  const auto second = Assentd::Start(options);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), testing::HasSubstr("cannot serve metrics on 127.0.0.1:"));
}

}  // namespace
}  // namespace assent
