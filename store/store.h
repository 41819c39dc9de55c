// Store: what is durable. An interface of a few verbs over compare-and-set transitions of one record per global
// transaction.
//
// The laws that every implementation keeps (conformance_suite.h tests them):
//
//  S1. A transition is atomic: all of its record or none of it, also after a crash at any moment.
//  S2. A transition applies only if the stored revision is the expected one; of two transitions with one expectation at
//      most one is ever APPLIED, whoever asks, in whatever process.
//  S3. `done` runs after the transition is visible to every reader and durable as asked: kForced survives the loss of
//      power; kLazy survives the death of the process (kill -9), and may be lost with the machine. What is lost with
//      the machine is always a suffix: if a transition survives, so does every one that was APPLIED before it.
//  S4. UNKNOWN means exactly that: it may or may not come to be applied. Nobody is told an outcome until Settle has
//      answered. NOT_APPLIED means it never will be.
//  S5. Work is grouped: whatever waits is written together, and a group is forced once if any member asks for it.
//
// Where several processes or machines share one store, each through an object of its own, these hold for all of them
// together, and:
//
//  S6. What Read, ReadOpen, ReadChanged, Settle and a conflict's `current` show of another writer is forced to disk
//      before it is shown: who acts on it acts on something that cannot be lost. List is for eyes only.
//  S7. The writes of an instance that was declared dead are never applied (membership.h).
//
// And of all of them, whoever deletes:
//
//  S8. What was deleted is not taken for what never was: of a gtrid that was born (BirthOf) at or after the horizon no
//      record was ever deleted. A purge moves the horizon behind what it deletes (horizon.h).
//
// Thread-safe. Records are the public messages themselves (assent/v1): what is stored is what is shown.
#ifndef ASSENT_STORE_STORE_H_
#define ASSENT_STORE_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "assent/v1/global.pb.h"
#include "assent/v1/resource_service.pb.h"
#include "store/membership.h"

namespace assent {

// Immutable once shared, so that a snapshot costs nothing and no lock. Null: no record.
using GlobalPtr = std::shared_ptr<const v1::Global>;

enum class Durability { kLazy, kForced };

struct Transition {
  // The record after the transition; its revision is greater than expected_revision. Its gtrid names the row.
  GlobalPtr next;
  // The revision the stored record must have; 0: there must be no record with this gtrid, nor one with the same
  // non-empty request_id (a request id names at most one record of the store).
  int64_t expected_revision = 0;
  Durability durability = Durability::kLazy;
  // With expected_revision 0: the record must be certainly the first of its gtrid. If there may have been another one
  // (law S8), which is looked at in the same moment, it is NOT_APPLIED with OUTCOME_IN_DOUBT; if there is one,
  // CONFLICT.
  bool must_be_first = false;
};

struct TransitionResult {
  enum class Code {
    kApplied,     // Stored, as durable as asked for.
    kConflict,    // Not stored: another record or revision is there (`current`).
    kNotApplied,  // Not stored and never will be (`status` says why).
    kUnknown,     // Nobody knows yet (`status` says why): ask Settle before telling anybody anything.
  };
  Code code = Code::kApplied;
  // kConflict: the record in the way; null if the row is gone. With expected_revision 0 it may have another gtrid: the
  // one that holds the same request id.
  GlobalPtr current;
  // OK for kApplied and kConflict; else STORE_UNAVAILABLE, STORE_FULL, STORE_CORRUPT (what is stored cannot be read) or
  // OVERLOADED (the queue is full) or INSTANCE_FENCED (this instance was declared dead: membership.h), or
  // OUTCOME_IN_DOUBT (must_be_first).
  absl::Status status;
};

enum class ListOrder { kNewestFirst, kOldestFirst };

struct ListQuery {
  int page_size = 100;                    // 1..1000
  std::string page_token;                 // Opaque, of a page of the same order and states; empty: the first page.
  std::vector<v1::Global::State> states;  // Empty: all.
  ListOrder order = ListOrder::kNewestFirst;
};

struct ListPage {
  std::vector<GlobalPtr> globals;  // In order of creation. May be fewer than page_size although more follow.
  std::string next_page_token;     // Empty: the last page.
};

// What an instance knows of a record.
struct KnownRevision {
  std::string gtrid;
  int64_t revision = 0;
};

// How large the store is. Estimates, which may be some seconds old, except `open`.
struct StoreSizes {
  int64_t open = 0;     // Unfinished records.
  int64_t records = 0;  // All records.
  int64_t bytes = 0;    // On disk, with indexes.
};

// Counters since the store was opened; for metrics, benchmarks and the tests that count forced writes.
struct StoreStats {
  int64_t transitions = 0;       // Applied.
  int64_t groups = 0;            // Store transactions.
  int64_t forced_groups = 0;     // Of them, those that were forced to disk.
  int64_t checkpoint_syncs = 0;  // Forced writes of housekeeping, not in any transaction's way.
};

class Store {
 public:
  using Done = std::function<void(TransitionResult)>;

  // Waits for what was submitted (every `done` has run afterwards), then closes.
  virtual ~Store() = default;

  // Queues the transition and returns at once. `done` runs exactly once, on a thread of the store with no lock held; it
  // must not block and may Submit again. Transitions on the same gtrid take effect in the order of Submit.
  virtual void Submit(Transition transition, Done done) = 0;

  // After UNKNOWN: makes sure that whatever was in flight for this gtrid is now either visible or impossible, and
  // answers what is there (null: no record), forced to disk. After an error (STORE_UNAVAILABLE, STORE_FULL) nothing is
  // known yet: call again. Not from a `done`. Blocks.
  virtual absl::StatusOr<GlobalPtr> Settle(absl::string_view gtrid) = 0;

  // The record of a gtrid; null if there is none, and then Horizon() is not behind what was deleted before. Sees
  // everything whose `done` has run. Blocks.
  virtual absl::StatusOr<GlobalPtr> Read(absl::string_view gtrid) = 0;

  // A page of records. INVALID_PAGE_TOKEN for a token that is not ours. The work per call is bounded. Blocks.
  virtual absl::StatusOr<ListPage> List(const ListQuery& query) = 0;

  // The unfinished records (ACTIVE, COMMITTING, ROLLING_BACK, HEURISTIC) in order of gtrid, `limit` at a time,
  // beginning behind `after`. Costs nothing for finished ones. Blocks.
  virtual absl::StatusOr<std::vector<GlobalPtr>> ReadOpen(absl::string_view after, int limit) = 0;

  // Of at most 1,000 records those whose stored revision is greater than the known one, in any order. What is not there
  // is left out. One bounded read: how an instance learns of what the others did with the transactions it has waiters
  // for. Blocks.
  virtual absl::StatusOr<std::vector<GlobalPtr>> ReadChanged(absl::Span<const KnownRevision> known) = 0;

  // Deletes finished records whose end_time is before `ended_before`, and whose gtrid was born before it, the oldest
  // first, at most `limit` (1..1000); answers their gtrids. Never an unfinished one, nor one of which a branch is
  // finished by an operator's word alone (RestsOnWord). Their request ids are free then, and their gtrids, but for what
  // must be the first. Fewer than `limit`: there is no more to do now. Forced. Blocks.
  virtual absl::StatusOr<std::vector<std::string>> Purge(absl::Time ended_before, int limit) = 0;

  // The horizon (law S8), as far as this object has seen it: when it was opened, in its own purges, and with what had
  // to be the first. For making gtrids that are good: whoever makes them of an older one has them refused, never
  // believed.
  virtual absl::Time Horizon() const = 0;
  // The same as it is stored now, whoever has moved it. Blocks.
  virtual absl::StatusOr<absl::Time> ReadHorizon() = 0;

  // For metrics; costs nothing for finished records. Blocks.
  virtual absl::StatusOr<StoreSizes> Sizes() = 0;

  // The registry of resources. Forced. Put inserts or replaces. Block.
  virtual absl::Status PutResource(const v1::Resource& resource) = 0;
  // Puts it if what is stored by its name is `expected` (null: nothing is), and answers true; false, and nothing is
  // changed, if it is something else. True, too, if it is there already: an answer may have been lost.
  virtual absl::StatusOr<bool> ReplaceResource(const v1::Resource* expected, const v1::Resource& resource) = 0;
  virtual absl::Status RemoveResource(absl::string_view name) = 0;
  virtual absl::StatusOr<std::vector<v1::Resource>> ReadResources() = 0;

  // True if other processes may write to it as well.
  virtual bool IsShared() const = 0;

  // What names this store among all others: made with it, never changes, goes with its data. 1 to 64 printable
  // characters.
  virtual std::string Id() const = 0;

  // True if lazy transitions that were APPLIED before this store was opened may have been lost (the machine restarted
  // since they were written, or nobody can tell) and this has not been dealt with: it stays true, from open to open, as
  // long as a record that was ACTIVE at that moment still is. All that can be read when the store is open is forced.
  virtual bool MayHaveLostLazyWrites() const = 0;

  // True while an import into this store has not finished (transfer.h). It holds a part of what was decided and would
  // deny the rest, so it opens for the import only: for everybody else opening answers STORE_HALF_IMPORTED.
  virtual bool IsHalfImported() const = 0;
  // Ends the import: what is there is all of it, and forced; `horizon`, rounded up to a millisecond, is the horizon
  // from now on. Blocks.
  virtual absl::Status FinishImport(absl::Time horizon) = 0;

  virtual StoreStats Stats() const = 0;

  // Who else works on this store.
  virtual Membership& Members() = 0;
};

// True for COMMITTED, ROLLED_BACK and HEURISTIC_CLOSED: nothing is left to do, for anybody.
inline bool IsFinished(v1::Global::State state) {
  return state == v1::Global::STATE_COMMITTED || state == v1::Global::STATE_ROLLED_BACK ||
         state == v1::Global::STATE_HEURISTIC_CLOSED;
}

}  // namespace assent

#endif  // ASSENT_STORE_STORE_H_
