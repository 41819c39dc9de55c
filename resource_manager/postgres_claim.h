// The claim on a PostgreSQL database (claim.h says what it is for): one row per cluster in the table assent.claim of
// the database itself. The table's version stands in its comment.
//
// All functions block and need a session without branch or transaction.
#ifndef ASSENT_RESOURCE_MANAGER_POSTGRES_CLAIM_H_
#define ASSENT_RESOURCE_MANAGER_POSTGRES_CLAIM_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "resource_manager/branch_recovery.h"
#include "resource_manager/postgres_session.h"

namespace assent {

// Makes the schema and the table unless they are there. Safe to repeat, and for two coordinators at once.
// RESOURCE_UNFIT: a privilege is missing (metadata `grant` has the statement that gives it), or the table is another
// one; DATABASE_ERROR, DATABASE_UNREACHABLE.
absl::Status InstallPostgresClaims(PostgresSession* session);

// nullopt: there is none. RESOURCE_UNFIT as above.
absl::StatusOr<absl::optional<Claim>> ReadPostgresClaim(PostgresSession* session, absl::string_view cluster);

// Writes the claim, durably, if what is there is `expected` (nullopt: nothing). False if it is something else.
absl::StatusOr<bool> WritePostgresClaim(PostgresSession* session, absl::string_view cluster,
                                        const absl::optional<Claim>& expected, const Claim& claim);

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_POSTGRES_CLAIM_H_
