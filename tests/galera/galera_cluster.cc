#include "tests/galera/galera_cluster.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/address.h"
#include "mariadb/connection.h"
#include "tests/fixtures/process.h"

namespace assent {
namespace {

constexpr char kProvider[] = "/usr/lib/galera/libgalera_smm.so";
constexpr absl::Duration kPatience = absl::Seconds(30);

// What a server calls to hand its state over to one that joins. Here nothing is ever copied: only the position is told,
// by a file, and Galera sends what follows (IST).
constexpr char kTransferScript[] = R"sh(#!/bin/sh
folder=$(dirname "$0")
while [ $# -gt 0 ]; do
  case $1 in
    --role) role=$2 ;;
    --address) address=$2 ;;
    --gtid) gtid=$2 ;;
    --bypass) bypass=1 ;;
  esac
  shift
done
if [ "$role" = joiner ]; then
  name=position.$$
  echo "ready 127.0.0.1:1/$name"
  while [ ! -s "$folder/$name" ]; do sleep 0.05; done
  cat "$folder/$name"
else
  [ -n "$bypass" ] || exit 1
  name=${address##*/}
  echo "$gtid" >"$folder/$name.new"
  mv "$folder/$name.new" "$folder/$name"
  echo "done $gtid"
fi
)sh";

absl::StatusOr<std::unique_ptr<MariaDbConnection>> ConnectTo(const PrivateMariaDb& node) {
  ConnectOptions options;
  options.address = *ParseAddress(node.unix_address());
  options.user = node.user();
  options.password = node.password();
  return MariaDbConnection::Connect(options);
}

std::string StatusOf(MariaDbConnection* connection, const std::string& name) {
  const QueryResult found = connection->Query(absl::StrCat("SHOW GLOBAL STATUS LIKE '", name, "'"));
  return found.ok() && !found.rows().empty() ? found.rows()[0][1].value_or("") : "";
}

int64_t SeqnoOf(const std::string& position) {
  int64_t seqno = -1;
  return absl::SimpleAtoi(position.substr(position.rfind(':') + 1), &seqno) ? seqno : -1;
}

}  // namespace

absl::StatusOr<std::unique_ptr<GaleraCluster>> GaleraCluster::Start() {
  if (access(kProvider, R_OK) != 0) return absl::NotFoundError(absl::StrCat(kProvider, " is missing (galera-4)"));
  absl::StatusOr<TempDir> dir = TempDir::Create("assent-galera-");
  if (!dir.ok()) return dir.status();
  const std::string script = dir->path() + "/wsrep_sst_position";
  std::ofstream(script) << kTransferScript;
  if (chmod(script.c_str(), 0755) != 0) return absl::InternalError("cannot write " + script);
  // Where the servers look for it.
  setenv("PATH", absl::StrCat(dir->path(), ":", std::getenv("PATH")).c_str(), /*overwrite=*/1);
  std::unique_ptr<GaleraCluster> cluster(new GaleraCluster(*std::move(dir)));
  for (int i = 0; i < kNodes; ++i) {
    absl::StatusOr<std::unique_ptr<PrivateMariaDb>> node = PrivateMariaDb::Start();
    if (!node.ok()) return node.status();
    cluster->nodes_.push_back(*std::move(node));
    const auto connection = ConnectTo(*cluster->nodes_.back());
    if (!connection.ok()) return connection.status();
    const QueryResult made =
        (*connection)
            ->Query(absl::StrCat("CREATE USER ", cluster->user(), "@'127.0.0.1' IDENTIFIED BY '", cluster->password(),
                                 "';GRANT ALL ON *.* TO ", cluster->user(), "@'127.0.0.1'"));
    if (!made.ok()) return absl::InternalError(made.error.message);
    if (absl::Status status = cluster->nodes_.back()->Stop(); !status.ok()) return status;
    cluster->group_ports_.push_back(FreePort());
    cluster->transfer_ports_.push_back(FreePort());
  }
  if (absl::Status status = cluster->Launch(0, /*first=*/true, ""); !status.ok()) return status;
  // Whatever has been counted so far are views of the cluster and no data: the next one is as far.
  const auto connection = ConnectTo(cluster->node(0));
  if (!connection.ok()) return connection.status();
  for (int i = 1; i < kNodes; ++i) {
    const std::string position = absl::StrCat(StatusOf(connection->get(), "wsrep_cluster_state_uuid"), ":",
                                              StatusOf(connection->get(), "wsrep_last_committed"));
    cluster->NoteState(i, position, /*may_bootstrap=*/false);
    if (absl::Status status = cluster->Launch(i, /*first=*/false, position); !status.ok()) return status;
  }
  return cluster;
}

std::vector<std::string> GaleraCluster::OptionsOf(int i, bool first, const std::string& position) const {
  const std::string peers =
      absl::StrJoin(group_ports_, ",", [](std::string* out, int port) { absl::StrAppend(out, "127.0.0.1:", port); });
  std::vector<std::string> options = {
      // Each node's root keeps its own password; what init-file says would go to all of them.
      "--init-file=",
      "--binlog-format=ROW",
      "--default-storage-engine=InnoDB",
      "--innodb-autoinc-lock-mode=2",
      "--innodb-flush-log-at-trx-commit=1",
      absl::StrCat("--server-id=", i + 1),
      "--wsrep-on=ON",
      absl::StrCat("--wsrep-provider=", kProvider),
      "--wsrep-cluster-name=assent",
      absl::StrCat("--wsrep-node-name=node", i),
      "--wsrep-node-address=127.0.0.1",
      "--wsrep-sst-method=position",
      absl::StrCat("--wsrep-cluster-address=gcomm://", first ? "" : peers),
      absl::StrCat("--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:", group_ports_[i],
                   ";ist.recv_addr=127.0.0.1:", transfer_ports_[i], ";gcache.size=64M;gcache.recover=no"),
  };
  if (first) options.push_back("--wsrep-new-cluster");
  if (!position.empty()) options.push_back(absl::StrCat("--wsrep-start-position=", position));
  return options;
}

void GaleraCluster::NoteState(int i, const std::string& position, bool may_bootstrap) {
  const size_t colon = position.rfind(':');
  std::ofstream(node(i).data_path() + "/grastate.dat", std::ios::trunc)
      << "# GALERA saved state\nversion: 2.1\nuuid:    " << position.substr(0, colon)
      << "\nseqno:   " << position.substr(colon + 1) << "\nsafe_to_bootstrap: " << may_bootstrap << "\n";
}

absl::Status GaleraCluster::Launch(int i, bool first, const std::string& position) {
  if (absl::Status status = node(i).Restart(OptionsOf(i, first, position)); !status.ok()) return status;
  return AwaitSynced(i);
}

absl::Status GaleraCluster::AwaitSynced(int i) {
  for (const absl::Time give_up = absl::Now() + kPatience; absl::Now() < give_up;
       absl::SleepFor(absl::Milliseconds(50))) {
    const auto connection = ConnectTo(node(i));
    if (!connection.ok()) continue;
    if (StatusOf(connection->get(), "wsrep_local_state_comment") == "Synced") return absl::OkStatus();
  }
  return absl::DeadlineExceededError(absl::StrCat("node ", i, " did not join: ", node(i).LogTail()));
}

absl::StatusOr<std::string> GaleraCluster::RecoverPosition(int i) {
  constexpr char kFound[] = "WSREP: Recovered position: ";
  std::vector<std::string> options = OptionsOf(i, /*first=*/false, "");
  options.push_back("--wsrep-recover");
  // It ends by itself, which a start does not expect.
  (void)node(i).Restart(options);
  node(i).Kill9();
  std::ifstream log(node(i).log_path());
  std::string position;
  for (std::string line; std::getline(log, line);) {
    if (const size_t at = line.find(kFound); at != std::string::npos) position = line.substr(at + sizeof(kFound) - 1);
  }
  if (position.empty()) return absl::InternalError(absl::StrCat("no position of node ", i, ": ", node(i).LogTail()));
  return position.substr(0, position.find_first_of(", \r"));
}

absl::Status GaleraCluster::Rejoin(int i) {
  const absl::StatusOr<std::string> position = RecoverPosition(i);
  if (!position.ok()) return position.status();
  return Launch(i, /*first=*/false, *position);
}

absl::StatusOr<int> GaleraCluster::Bootstrap() {
  std::vector<std::string> positions;
  int furthest = 0;
  for (int i = 0; i < kNodes; ++i) {
    const absl::StatusOr<std::string> position = RecoverPosition(i);
    if (!position.ok()) return position.status();
    positions.push_back(*position);
    if (SeqnoOf(*position) > SeqnoOf(positions[static_cast<size_t>(furthest)])) furthest = i;
  }
  // Galera asks to be told that this is meant.
  NoteState(furthest, positions[static_cast<size_t>(furthest)], /*may_bootstrap=*/true);
  if (absl::Status status = Launch(furthest, /*first=*/true, positions[static_cast<size_t>(furthest)]); !status.ok()) {
    return status;
  }
  return furthest;
}

}  // namespace assent
