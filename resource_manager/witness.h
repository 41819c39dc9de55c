// The witness table on a MariaDB server: made, asked and swept here. The rows are inserted by the branches themselves
// (MariaDbSession::SendPrepare).
//
//   CREATE TABLE assent.witness (gtrid, bqual, created, PRIMARY KEY (gtrid, bqual)) ENGINE=InnoDB
//
// Its version stands in the table's comment. All functions block, and need a session without branch or transaction (a
// snapshot taken earlier would not see what they ask for).
#ifndef ASSENT_RESOURCE_MANAGER_WITNESS_H_
#define ASSENT_RESOURCE_MANAGER_WITNESS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/xid.h"
#include "resource_manager/mariadb_session.h"
#include "resource_manager/witness_table.h"

namespace assent {

constexpr int kWitnessVersion = 1;
constexpr int kMaxWitnessesPerDelete = 1000;

// The version of the table that is there; 0: none (or the account may not see it). RESOURCE_UNFIT if a table of that
// name is not a witness table.
absl::StatusOr<int> ReadWitnessVersion(MariaDbSession* session, const WitnessTable& table);

// Makes the schema and the table, or brings an older one up to date, unless all is well already; then checks that this
// account may read and delete. Safe to repeat, and for two coordinators at once. RESOURCE_UNFIT: a privilege is missing
// (the message and metadata `grant` have the statement that gives it), the table is newer than this library or is not a
// witness table; DATABASE_ERROR, DATABASE_UNREACHABLE. After an error there is the old table, the new one or none:
// repeat.
absl::Status InstallWitness(MariaDbSession* session, const WitnessTable& table);

// True: the branch has committed. False: it has not, as far as committed data goes when this is asked; a prepared
// branch may still commit, so false is evidence only together with its absence from XA RECOVER.
absl::StatusOr<bool> HasWitness(MariaDbSession* session, const WitnessTable& table, const Xid& xid);

// Deletes the witnesses of branches whose global transactions are finished: in one transaction, so all or none. Missing
// ones are no error. Never waits for the witnesses of other branches. At most kMaxWitnessesPerDelete (INVALID_FIELD).
absl::Status DeleteWitnesses(MariaDbSession* session, const WitnessTable& table, absl::Span<const Xid> xids);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_WITNESS_H_
