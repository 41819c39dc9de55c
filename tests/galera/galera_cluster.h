// GaleraCluster: three MariaDB servers that replicate to each other with Galera, on loopback, for one test.
//
// They begin as copies of each other, so no state is ever transferred as a whole (which would need the scripts of
// Debian's mariadb-server); a node that comes back catches up from another one's memory (IST).
#ifndef ASSENT_TESTS_GALERA_GALERA_CLUSTER_H_
#define ASSENT_TESTS_GALERA_GALERA_CLUSTER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/fixtures/private_mariadb.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {

// Not thread-safe.
class GaleraCluster {
 public:
  static constexpr int kNodes = 3;

  // Starts all nodes; returns when all are in the cluster. NOT_FOUND: galera-4 is not installed.
  static absl::StatusOr<std::unique_ptr<GaleraCluster>> Start();

  PrivateMariaDb& node(int i) { return *nodes_[static_cast<size_t>(i)]; }
  // The account that all nodes know.
  std::string user() const { return "store"; }
  std::string password() const { return "galera-test"; }

  // Starts a node that was killed, and waits until it has caught up with the others.
  absl::Status Rejoin(int i);
  // After all were killed: starts the cluster anew from the node that had come furthest, alone; answers which that is.
  // (The others may lack more than that one can send from memory: they would need its whole state.)
  absl::StatusOr<int> Bootstrap();

 private:
  explicit GaleraCluster(TempDir dir) : dir_(std::move(dir)) {}
  // Options of node `i`; `position`: what it has, empty if that is to be read from its folder.
  std::vector<std::string> OptionsOf(int i, bool first, const std::string& position) const;
  absl::Status Launch(int i, bool first, const std::string& position);
  absl::Status AwaitSynced(int i);
  // Writes down what a node that does not run has.
  void NoteState(int i, const std::string& position, bool may_bootstrap);
  // What a node that was killed had come to: `uuid:seqno`.
  absl::StatusOr<std::string> RecoverPosition(int i);

  const TempDir dir_;  // Of the script that tells a position.
  std::vector<std::unique_ptr<PrivateMariaDb>> nodes_;
  std::vector<int> group_ports_;
  std::vector<int> transfer_ports_;
};

}  // namespace assent

#endif  // ASSENT_TESTS_GALERA_GALERA_CLUSTER_H_
