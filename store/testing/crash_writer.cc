// Writes to a store until it is killed: the victim of sqlite_crash_test.
//
//   crash_writer <store.db> <round>
//
// Prints one line for each transition that was reported APPLIED, "<gtrid> <revision>", in one write(2) each, so that
// what the reader of the pipe has got is exactly what was told before the kill.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
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
                    return;
                  }
                  Tell(absl::StrCat(gtrid, " ", revision, "\n"));
                  const bool last = revision == kRevisions;
                  Step(store, prefix, last ? number + 1 : number, last ? 1 : revision + 1);
                });
}

int Main(const std::string& path, const std::string& round) {
  SqliteOptions options;
  options.path = path;
  options.cluster = "crash";
  options.wal_limit_pages = 200;  // Checkpoints are to be hit, too.
  absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(options);
  if (!store.ok()) {
    Tell(absl::StrCat("! ", store.status().ToString(), "\n"));
    return 1;
  }
  Tell("ready\n");
  for (int chain = 0; chain < kChains; ++chain) Step(store->get(), absl::StrCat("g", round, "-", chain), 0, 1);
  while (true) pause();
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (argc != 3) return 2;
  return assent::Main(argv[1], argv[2]);
}
