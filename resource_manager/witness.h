// The witness table on a MariaDB server: made, asked and swept here. The rows are inserted by the branches themselves
// (MariaDbSession::SendPrepare).
//
//   CREATE TABLE assent.witness (gtrid, bqual, created, PRIMARY KEY (gtrid, bqual)) ENGINE=InnoDB
//
// The row with empty ids, which no branch has, is the table's birth (and one with the bqual `!` comes and goes, see
// ForceWitnesses): while it is there and older than a branch, the
// absence of that branch's row proves something. (A table that was dropped, emptied and made anew has a younger one.)
//
// Its version stands in the table's comment. All functions block, and need a session without branch or transaction (a
// snapshot taken earlier would not see what they ask for).
#ifndef ASSENT_RESOURCE_MANAGER_WITNESS_H_
#define ASSENT_RESOURCE_MANAGER_WITNESS_H_

#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/xid.h"
#include "resource_manager/mariadb_session.h"
#include "resource_manager/witness_table.h"

namespace assent {

constexpr int kWitnessVersion = 1;
// The ids of the birth row.
const Xid& WitnessBirth();
constexpr int kMaxWitnessesPerDelete = 1000;
constexpr int kMaxWitnessesPerRead = 1000;

// The version of the table that is there; 0: none (or the account may not see it). RESOURCE_UNFIT if a table of that
// name is not a witness table.
absl::StatusOr<int> ReadWitnessVersion(MariaDbSession* session, const WitnessTable& table);

// Makes the schema and the table, or brings an older one up to date, unless all is well already; then checks it as
// CheckWitness does, and that this account may delete. Not for use while recovering: a table that is made anew would
// hide that the old one is lost. Safe to repeat, and for two coordinators at once. RESOURCE_UNFIT: a privilege is
// missing (the message and metadata `grant` have the statement that gives it), the table is newer than this library or
// is not a witness table; DATABASE_ERROR, DATABASE_UNREACHABLE. After an error there is the old table, the new one or
// none: repeat.
absl::Status InstallWitness(MariaDbSession* session, const WitnessTable& table);

// Changes nothing. OK if the table is there with its birth row, and this account may read it. RESOURCE_UNFIT as
// above, and if it is missing or empty; DATABASE_ERROR, DATABASE_UNREACHABLE.
absl::Status CheckWitness(MariaDbSession* session, const WitnessTable& table);

// True: the branch has committed. False: it has not, as far as committed data goes when this is asked; a prepared
// branch may still commit, so false is evidence only together with its absence from XA RECOVER.
absl::StatusOr<bool> HasWitness(MariaDbSession* session, const WitnessTable& table, const Xid& xid);

// A branch whose witness is looked for.
struct WitnessQuestion {
  Xid xid;
  // When the branch was created, by this machine's clock.
  absl::Time created;
};
enum class WitnessSight {
  kCommitted,
  kUncommitted,  // Written by a transaction that is still open: active, prepared, being rolled back, or a ghost.
  kAbsent,
  kUnknowable,  // Not seen, and the table cannot prove absence: missing, not ours, unreadable, or made after the
                // branch.
  kNone,        // Nobody looked: the branch leaves none.
};
struct WitnessAnswers {
  std::vector<WitnessSight> sights;  // One per question, in order.
  std::string problem;               // Why some are kUnknowable, in words; empty if none is.
};
// Looks for witnesses, also for those of open transactions; waits for no lock. What is absent was absent at some moment
// during the call; the same for the rest. At most kMaxWitnessesPerRead (INVALID_FIELD). DATABASE_ERROR,
// DATABASE_UNREACHABLE.
absl::StatusOr<WitnessAnswers> ReadWitnesses(MariaDbSession* session, const WitnessTable& table,
                                             absl::Span<const WitnessQuestion> questions);

// Returns OK once what others had committed on this server, and could be seen before the call, is on its disk: InnoDB
// lets a transaction be seen before its log is written, and a server that dies then has never committed it. (A branch
// that was prepared comes back as prepared; of one that was committed in one phase nothing is left.) Writes to the
// table; needs innodb_flush_log_at_trx_commit = 1, as every commit there does that is to outlive a crash.
// DATABASE_ERROR (the server takes no writes now), DATABASE_UNREACHABLE, RESOURCE_UNFIT.
absl::Status ForceWitnesses(MariaDbSession* session, const WitnessTable& table);

// The committed witnesses whose gtrid begins with `gtrid_prefix`, in order, beginning behind `after` (in the order of
// gtrid, then bqual), at most `limit`. An empty list if the table is missing.
absl::StatusOr<std::vector<Xid>> ListWitnesses(MariaDbSession* session, const WitnessTable& table,
                                               absl::string_view gtrid_prefix, const Xid& after, int limit);

// The witnesses of open transactions whose gtrid begins with `gtrid_prefix`, all that are not in `except`, in order;
// waits for no lock of a row. A transaction that ends meanwhile may be among them. An empty list if the table is
// missing. Reads the table in pages.
absl::StatusOr<std::vector<Xid>> ListOpenWitnesses(MariaDbSession* session, const WitnessTable& table,
                                                   absl::string_view gtrid_prefix, const std::set<Xid>& except);

// Deletes the witnesses of branches whose global transactions are finished: in one transaction, so all or none. Missing
// ones are no error, nor is a missing table. Those that are not committed are left, and never waited for. At most
// kMaxWitnessesPerDelete (INVALID_FIELD).
absl::Status DeleteWitnesses(MariaDbSession* session, const WitnessTable& table, absl::Span<const Xid> xids);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_WITNESS_H_
