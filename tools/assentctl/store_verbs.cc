#include "tools/assentctl/store_verbs.h"

#include <glog/logging.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/errors.h"
#include "store/open_store.h"
#include "store/sqlite_backup.h"
#include "store/transfer.h"
#include "tools/assentctl/session.h"
#include "tools/assentctl/text.h"

namespace assent {
namespace {

constexpr absl::Duration kProgressInterval = absl::Seconds(3);

struct StoreCommand {
  StoreSettings settings;
  ExportOptions exporting;
  BackupOptions backup;
  std::string file;
};

// A line on standard error every few seconds, terminal or not.
class ProgressLine {
 public:
  // What is to be said now, or nothing if it is too early.
  template <typename Text>
  void Maybe(Text text) {
    const absl::Time now = absl::Now();
    if (now < next_) return;
    next_ = now + kProgressInterval;
    std::cerr << text(absl::ToDoubleSeconds(now - begun_)) << std::endl;
  }
  std::string Elapsed() const { return absl::StrFormat("%.1f s", absl::ToDoubleSeconds(absl::Now() - begun_)); }

 private:
  const absl::Time begun_ = absl::Now();
  absl::Time next_ = begun_ + kProgressInterval;
};

TransferProgress ProgressOf(ProgressLine* line, const std::string& doing) {
  return [line, doing](const TransferCounts& counts) {
    line->Maybe([&](double seconds) {
      return absl::StrCat(doing, ": ", counts.globals, " transactions",
                          counts.expected > counts.globals ? absl::StrCat(" of about ", counts.expected) : "", ", ",
                          static_cast<int64_t>(counts.globals / seconds), " a second");
    });
  };
}

std::string CountsText(const TransferCounts& counts, const ProgressLine& line) {
  return absl::StrCat(counts.globals, " transactions and ", counts.resources, " resources",
                      counts.found > 0 ? absl::StrCat(" (", counts.found, " transactions were there already)") : "",
                      " in ", line.Elapsed());
}

int FailStore(const absl::Status& status) {
  Complain(ToText(status));
  const absl::optional<Reason> reason = ReasonOf(status);
  if (reason == Reason::INVALID_FIELD && MetadataOf(status).count("field") > 0) return kExitUsage;
  if (reason == Reason::STORE_UNAVAILABLE) return kExitUnreachable;
  return absl::IsNotFound(status) ? kExitNotFound : kExitError;
}

// The store's own words: warnings of a server that is unfit are errors here anyway.
void StartLogging() {
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = google::GLOG_ERROR;
  google::InitGoogleLogging("assentctl");
  signal(SIGPIPE, SIG_IGN);  // An error of write, like every other.
}

int Export(StoreCommand* command) {
  StartLogging();
  ProgressLine line;
  command->exporting.path = command->file;
  command->exporting.progress = ProgressOf(&line, "export");
  const absl::StatusOr<TransferCounts> counts = ExportStore(command->settings, command->exporting);
  if (!counts.ok()) return FailStore(counts.status());
  std::cerr << "exported " << CountsText(*counts, line) << std::endl;
  return kExitOk;
}

int Import(StoreCommand* command) {
  StartLogging();
  ProgressLine line;
  const absl::StatusOr<TransferCounts> counts =
      ImportStore(command->settings, command->file, ProgressOf(&line, "import"));
  if (!counts.ok()) return FailStore(counts.status());
  std::cerr << "imported " << CountsText(*counts, line) << "; the store is complete" << std::endl;
  return kExitOk;
}

int Verify(StoreCommand* command) {
  StartLogging();
  ProgressLine line;
  const absl::StatusOr<VerifyReport> report =
      VerifyStore(command->settings, command->file, ProgressOf(&line, "verify"));
  if (!report.ok()) return FailStore(report.status());
  for (const std::string& difference : report->differences) std::cout << Escape(difference) << "\n";
  if (report->more_differences > 0) std::cout << "and " << report->more_differences << " more differences\n";
  if (report->displaced > 0) {
    std::cerr << report->displaced << " transactions stand elsewhere in the order of creation, which does no harm"
              << std::endl;
  }
  if (!report->differences.empty()) return kExitError;
  std::cout << "OK: " << CountsText(report->counts, line) << std::endl;
  return kExitOk;
}

int Backup(StoreCommand* command) {
  StartLogging();
  const absl::StatusOr<StorePlace> place = ParseStore(command->settings);
  if (!place.ok()) return FailStore(place.status());
  if (place->mariadb) {
    Complain("backup copies an SQLite store; a MariaDB store is copied with the tools of its server (mariadb-backup)");
    return kExitUsage;
  }
  ProgressLine line;
  command->backup.store = place->sqlite_path;
  command->backup.path = command->file;
  command->backup.progress = [&line](const BackupCounts& counts) {
    line.Maybe(
        [&](double) { return absl::StrCat("backup: ", counts.bytes >> 20, " of ", counts.total >> 20, " MiB"); });
  };
  const absl::StatusOr<BackupCounts> counts = BackupSqliteStore(command->backup);
  if (!counts.ok()) return FailStore(counts.status());
  std::cerr << "copied " << counts->bytes << " bytes in " << line.Elapsed() << std::endl;
  return kExitOk;
}

// As assentd's settings of these names (docs/configuration.md), from the same environment.
void AddStoreOptions(CLI::App* verb, StoreSettings* settings, bool cluster_from_file) {
  verb->add_option("--store", settings->store,
                   "the store: the path of an SQLite file, or mariadb://USER@HOST[:PORT]/DATABASE")
      ->envname("ASSENTD_STORE")
      ->type_name("STORE")
      ->capture_default_str();
  CLI::Option* cluster =
      verb->add_option("--cluster", settings->cluster, cluster_from_file ? "its cluster [the file's]" : "its cluster")
          ->envname("ASSENTD_CLUSTER")
          ->type_name("NAME");
  if (!cluster_from_file) cluster->default_str(settings->cluster);
  verb->add_option("--store-password-file", settings->password_file,
                   "a file that holds the password of the store's user")
      ->envname("ASSENTD_STORE_PASSWORD_FILE")
      ->type_name("PATH");
  verb->add_option("--store-tls", settings->tls_mode,
                   "TLS to the store; insecure: encrypted, but whoever answers is believed")
      ->envname("ASSENTD_STORE_TLS")
      ->check(CLI::IsMember({"off", "on", "insecure"}))
      ->capture_default_str();
  verb->add_option("--store-tls-ca", settings->tls.ca, "PEM file of the CA that signs the store's certificate")
      ->envname("ASSENTD_STORE_TLS_CA")
      ->type_name("PATH");
  verb->add_option("--store-tls-cert", settings->tls.cert, "PEM file of the certificate to show to the store")
      ->envname("ASSENTD_STORE_TLS_CERT")
      ->type_name("PATH");
  verb->add_option("--store-tls-key", settings->tls.key, "PEM file of its private key")
      ->envname("ASSENTD_STORE_TLS_KEY")
      ->type_name("PATH");
  verb->add_flag("--store-allow-unsafe", settings->allow_unsafe,
                 "use a store server whose settings can lose what it has acknowledged")
      ->envname("ASSENTD_STORE_ALLOW_UNSAFE");
}

}  // namespace

void DeclareStore(CLI::App* app, const std::string& footer, std::function<int()>* run) {
  CLI::App* store = app->add_subcommand(
      "store",
      "Moves a store from SQLite to MariaDB or back, while no assentd runs on it; copies one while assentd runs");
  store->require_subcommand(1);
  static StoreCommand command;
  struct Verb {
    const char* name;
    const char* help;
    const char* file;
    const char* file_help;
    const char* examples;
    int (*run)(StoreCommand*);
    bool cluster_from_file;
  };
  static const Verb kVerbs[] = {
      {"export", "Writes all of a store into a file of JSON lines", "FILE",
       "made as FILE.part, and renamed when it is whole; - for standard output",
       "  assentctl store export --store /var/lib/assent/assent.db --cluster shop assent.jsonl\n"
       "  assentctl store export --store /var/lib/assent/assent.db --cluster shop --resume assent.jsonl\n"
       "  assentctl store export --store mariadb://assent@db0/assent --store-password-file pw --cluster shop - | "
       "gzip > assent.gz\n",
       Export, false},
      {"import",
       "Makes a store of a file; repeat it if it is interrupted. Until it has finished assentd refuses the store",
       "FILE", "of `store export`; - for standard input",
       "  assentctl store import --store mariadb://assent@db0/assent --store-password-file pw assent.jsonl\n"
       "  gunzip < assent.gz | assentctl store import --store /var/lib/assent/assent.db -\n",
       Import, true},
      {"verify", "Compares every record of a store and a file; exit code 1 and the first differences if there are any",
       "FILE", "of `store export`; - for standard input",
       "  assentctl store verify --store mariadb://assent@db0/assent --store-password-file pw assent.jsonl\n", Verify,
       true},
      {"backup", "Copies an SQLite store, also while assentd works on it; the copy is of one moment", "OUT",
       "the copy; there must be no such file",
       "  assentctl store backup --store /var/lib/assent/assent.db /backup/assent-$(date +%F).db\n", Backup, false},
  };
  for (const Verb& verb : kVerbs) {
    CLI::App* sub = store->add_subcommand(verb.name, verb.help);
    sub->add_option("file", command.file, verb.file_help)->required()->type_name(verb.file);
    if (verb.run == Backup) {
      sub->add_option("--store", command.settings.store, "the path of the SQLite file")
          ->envname("ASSENTD_STORE")
          ->type_name("PATH")
          ->capture_default_str();
    } else {
      AddStoreOptions(sub, &command.settings, verb.cluster_from_file);
    }
    if (verb.run == Export) {
      sub->add_flag("--resume", command.exporting.resume, "continue a FILE.part that an interrupted export has left");
      sub->add_flag("--force", command.exporting.force, "replace FILE, and a FILE.part that is not to be continued");
    }
    sub->footer(absl::StrCat("Examples:\n", verb.examples, "\n", footer));
    sub->callback([sub, run, &verb] {
      if (verb.cluster_from_file && sub->get_option("--cluster")->count() == 0) command.settings.cluster.clear();
      *run = [&verb] { return verb.run(&command); };
    });
  }
}

std::vector<std::string> StoreFileOptions() {
  return {"--store", "--store-password-file", "--store-tls-ca", "--store-tls-cert", "--store-tls-key"};
}

}  // namespace assent
