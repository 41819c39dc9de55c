// How long it takes to move a store of so many transactions (argument; 1,000,000) from SQLite to MariaDB and back, and
// to copy it: transfer_bench [transactions [folder]]. The MariaDB server is a private one, beside the files.
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "store/sqlite_backup.h"
#include "store/testing/transfer_test_util.h"
#include "store/transfer.h"
#include "tests/fixtures/private_mariadb.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

int64_t PeakMib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

template <typename Run>
void Measure(const std::string& what, Run run) {
  const absl::Time begun = absl::Now();
  const absl::Status status = run();
  CHECK(status.ok()) << what << ": " << status;
  std::printf("%-24s %8.1f s   peak memory %lld MiB\n", what.c_str(), absl::ToDoubleSeconds(absl::Now() - begun),
              static_cast<long long>(PeakMib()));
  std::fflush(stdout);
}

StoreSettings At(const std::string& store) {
  StoreSettings settings;
  settings.store = store;
  settings.cluster = "test";
  return settings;
}

int Main(int argc, char** argv) {
  const int count = argc > 1 ? std::atoi(argv[1]) : 1000000;
  if (argc > 2) setenv("TMPDIR", argv[2], 1);
  FLAGS_minloglevel = google::GLOG_ERROR;
  google::InitGoogleLogging(argv[0]);
  absl::StatusOr<TempDir> folder = TempDir::Create("transfer-bench-");
  CHECK(folder.ok()) << folder.status();
  const absl::StatusOr<PrivateMariaDb*> server = PrivateMariaDb::Shared();
  CHECK(server.ok()) << server.status();
  const std::string sqlite = folder->path() + "/assent.db";
  const std::string back = folder->path() + "/back.db";
  const std::string file = folder->path() + "/assent.jsonl";
  const std::string again = folder->path() + "/again.jsonl";
  StoreSettings mariadb = At(absl::StrCat("mariadb://root@/moved?socket=", (*server)->socket()));
  mariadb.password_file = (*server)->password_file();

  Measure("fill SQLite", [&] {
    const auto store = OpenStore(At(sqlite));
    if (store.ok()) FillWithHistory(store->get(), 0, count);
    return store.status();
  });
  Measure("backup", [&] { return BackupSqliteStore({sqlite, folder->path() + "/copy.db", nullptr}).status(); });
  Measure("export from SQLite", [&] { return ExportStore(At(sqlite), {file, false, false, nullptr}).status(); });
  std::printf("SQLite %lld MiB, JSON lines %lld MiB\n",
              static_cast<long long>(std::filesystem::file_size(sqlite) >> 20),
              static_cast<long long>(std::filesystem::file_size(file) >> 20));
  Measure("import into MariaDB", [&] { return ImportStore(mariadb, file, nullptr).status(); });
  Measure("verify MariaDB", [&] { return VerifyStore(mariadb, file, nullptr).status(); });
  Measure("export from MariaDB", [&] { return ExportStore(mariadb, {again, false, false, nullptr}).status(); });
  Measure("import into SQLite", [&] { return ImportStore(At(back), again, nullptr).status(); });
  Measure("verify SQLite", [&] { return VerifyStore(At(back), again, nullptr).status(); });
  return 0;
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) { return assent::Main(argc, argv); }
