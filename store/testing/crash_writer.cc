// Writes to a store until it is killed: the victim of the crash tests.
//
//   crash_writer <round> <store.db>
//   crash_writer <round> <socket> <password> <database> [address]
//
// With an address it joins as an instance, and never renews.
// Prints one line for each transition that was reported APPLIED, "<gtrid> <revision>", in one write(2) each, so that
// what the reader of the pipe has got is exactly what was told before the kill.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "store/mariadb_store.h"
#include "store/sqlite_store.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

constexpr int kChains = 24;
constexpr int64_t kRevisions = 5;

void Tell(const std::string& line) {
  if (write(STDOUT_FILENO, line.data(), line.size()) != static_cast<ssize_t>(line.size())) _exit(3);
}

// One chain makes one record after the other, and takes each through its revisions.
void Step(Store* store, const std::string& prefix, int number, int64_t revision) {
  const std::string gtrid = absl::StrCat(prefix, "-", number);
  const bool decision = revision == 3;
  const auto state = revision < 3            ? v1::Global::STATE_ACTIVE
                     : revision < kRevisions ? v1::Global::STATE_COMMITTING
                                             : v1::Global::STATE_COMMITTED;
  store->Submit(To(MakeGlobal(gtrid, revision, state, absl::StrCat("r-", gtrid), 300),
                   decision ? Durability::kForced : Durability::kLazy),
                [=](TransitionResult result) {
                  if (result.code != TransitionResult::Code::kApplied) {
                    Tell(absl::StrCat("! ", gtrid, " ", revision, " ", ToString(result), "\n"));
                    if (result.code == TransitionResult::Code::kUnknown) Step(store, prefix, number + 1, 1);
                    return;
                  }
                  Tell(absl::StrCat(gtrid, " ", revision, "\n"));
                  const bool last = revision == kRevisions;
                  Step(store, prefix, last ? number + 1 : number, last ? 1 : revision + 1);
                });
}

template <typename Opened>
int Main(const std::string& round, Opened store) {
  if (!store.ok()) {
    Tell(absl::StrCat("! ", store.status().ToString(), "\n"));
    return 1;
  }
  Tell("ready\n");
  for (int chain = 0; chain < kChains; ++chain) Step(store->get(), absl::StrCat("g", round, "-", chain), 0, 1);
  while (true) pause();
}

int MainSqlite(const std::string& round, const std::string& path) {
  SqliteOptions options;
  options.path = path;
  options.cluster = "crash";
  options.wal_limit_pages = 200;  // Checkpoints are to be hit, too.
  return Main(round, SqliteStore::Open(options));
}

int MainMariaDb(const std::string& round, const std::string& socket, const std::string& password,
                const std::string& database, const std::string& address) {
  MariaDbOptions options;
  options.address.socket = socket;
  options.user = "root";
  options.password = password;
  options.database = database;
  options.cluster = "test";
  absl::StatusOr<std::unique_ptr<MariaDbStore>> store = MariaDbStore::Open(options);
  if (store.ok() && !address.empty()) {
    InstanceInfo info;
    info.address = address;
    info.lease = absl::Milliseconds(500);
    const absl::StatusOr<InstanceKey> key = (*store)->Members().Join(info);
    if (!key.ok()) store = key.status();
  }
  return Main(round, std::move(store));
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (argc == 3) return assent::MainSqlite(argv[1], argv[2]);
  if (argc == 5 || argc == 6) {
    return assent::MainMariaDb(argv[1], argv[2], argv[3], argv[4], argc == 6 ? argv[5] : "");
  }
  return 2;
}
