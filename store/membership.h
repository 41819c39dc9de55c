// Membership: who else works on this store, and who does which work.
//
// Several coordinators (instances) may share one store. Each joins it under its address and says again and again that
// it is there (Renew). Whose word is older than its lease, by the clock of the store, is declared dead by whichever
// instance renews next (or by a tool that asks for it). The laws, in addition to those of store.h:
//
//  M1. An instance is (id, epoch). The id belongs to the address; the epoch counts the joins of that address. Of one id
//  at
//      most one epoch is alive.
//  M2. Death is for good: from the moment at which (id, epoch) is declared dead, every write of it (transitions,
//      resources, purges, leases) is refused with INSTANCE_FENCED inside the store's own transaction. What it had in
//      flight is applied before that moment or never. It may join again, and is another epoch then.
//  M3. A lease on a piece of work is held by one living instance or by nobody. Its epoch grows with every new holder.
//  It
//      ends with Release, Leave or the holder's death, never by time alone.
//
// A store that one process owns (SQLite) has one instance: the process.
#ifndef ASSENT_STORE_MEMBERSHIP_H_
#define ASSENT_STORE_MEMBERSHIP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace assent {

struct InstanceInfo {
  std::string address;  // Where clients reach it; 1 to 255 bytes, one instance each.
  std::string version;  // At most 64 bytes.
  // How long the others believe in it without a word. At least 100 ms; several times the pause between two Renews.
  absl::Duration lease = absl::Seconds(2);
};

struct InstanceKey {
  int64_t id = 0;  // From 1.
  int64_t epoch = 0;
};

struct Instance {
  InstanceKey key;
  std::string address;
  std::string version;
  int64_t load = 0;  // What it said last.
  absl::Time joined;
  absl::Time last_seen;  // By the store's clock. Of a dead one: when it was declared dead, or left.
  bool alive = false;
  std::vector<std::string> leases;  // The work it holds, in order.
};

struct Lease {
  std::string work;
  InstanceKey holder;
  int64_t epoch = 0;
};

// Thread-safe; everything blocks. After an error nothing is known: call again, every verb may be repeated.
class Membership {
 public:
  virtual ~Membership() = default;

  // Joins as a new epoch of the address. An instance that had it before is dead from then on. Before the first Join
  // writes are not fenced: a tool that is alone with the store need not join.
  virtual absl::StatusOr<InstanceKey> Join(const InstanceInfo& info) = 0;
  // Says that this instance lives, and declares those dead whose lease ran out. INSTANCE_FENCED if it is dead itself.
  virtual absl::Status Renew(int64_t load) = 0;
  // Declares those dead whose lease ran out, whether this object has joined or not: who is alive afterwards has been
  // heard of within its lease.
  virtual absl::Status DeclareSilentDead() = 0;
  // Leaves in good order. Nothing may be submitted afterwards.
  virtual absl::Status Leave() = 0;
  // All that are alive, and the dead of about a day, in order of id.
  virtual absl::StatusOr<std::vector<Instance>> Instances() = 0;

  // Takes what nobody living holds; answers for each (at most 1,000, 1 to 128 bytes each) who holds it now. Never takes
  // from a living holder: that one must Release.
  virtual absl::StatusOr<std::vector<Lease>> Claim(absl::Span<const std::string> work) = 0;
  // Gives back what this instance holds of it.
  virtual absl::Status Release(absl::Span<const std::string> work) = 0;
};

}  // namespace assent

#endif  // ASSENT_STORE_MEMBERSHIP_H_
