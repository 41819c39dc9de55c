// A participant as a process of its own: runs a branch on one server for whoever asks (participant_line.h), until it is
// killed.
//
//   participant BANK.CONF SERVER SOCKET
#include <glog/logging.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/errors.h"
#include "participant_sdk/cpp/client.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "tests/bank/bank.h"
#include "tests/bench/participant_line.h"

namespace assent {
namespace {

std::atomic<int64_t> g_round_trips{0};

std::string RunBranch(const std::string& gtrid, const BankServer& place, const std::string& statement, Client* client,
                      BranchSession* session) {
  absl::StatusOr<GlobalTransaction> transaction = client->Join(gtrid);
  if (!transaction.ok()) return ToText(transaction.status());
  const absl::StatusOr<Branch*> branch = transaction->OpenBranch(place.resource, session);
  if (!branch.ok()) return ToText(branch.status());
  if (const absl::Status done = (*branch)->Execute(statement).status(); !done.ok()) return ToText(done);
  const absl::Status committed = transaction->Prepare();
  return committed.ok() ? "ok" : ToText(committed);
}

void Serve(int fd, const BankServer& place, Client* client) {
  ParticipantLine line(fd);
  const absl::StatusOr<std::unique_ptr<BranchSession>> session = ConnectTo(place);
  CHECK(session.ok()) << session.status();
  for (std::string asked = line.Receive(); !asked.empty(); asked = line.Receive()) {
    if (asked == kStats) {
      line.Send(absl::StrCat(client->calls_sent(), " ", g_round_trips.load()));
      continue;
    }
    const int64_t before = (*session)->round_trips();
    const std::pair<std::string, std::string> work = absl::StrSplit(asked, absl::MaxSplits(' ', 1));
    const std::string told = RunBranch(work.first, place, work.second, client, session->get());
    g_round_trips += (*session)->round_trips() - before;
    line.Send(told);
  }
}

int Main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  size_t server = 0;
  CHECK_EQ(argc, 4);
  CHECK(absl::SimpleAtoi(argv[2], &server) && server < kBankServers);
  const absl::StatusOr<BankConfig> config = BankConfig::Load(argv[1]);
  CHECK(config.ok()) << config.status();
  Client client(config->coordinator);
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  CHECK_LT(std::strlen(argv[3]), sizeof(address.sun_path));
  std::strcpy(address.sun_path, argv[3]);
  PCHECK(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  PCHECK(listen(listener, SOMAXCONN) == 0);
  for (;;) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    PCHECK(fd >= 0);
    std::thread(Serve, fd, config->servers[server], &client).detach();
  }
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) { return assent::Main(argc, argv); }
