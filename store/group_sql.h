// The SQL of a group of transitions, written together: few statements for many rows.
#ifndef ASSENT_STORE_GROUP_SQL_H_
#define ASSENT_STORE_GROUP_SQL_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "store/pending_transition.h"
#include "store/store.h"

namespace assent {

// Statements that together change each gtrid's row at most once, from the revision that its first transition expects to
// what its last one leaves.
struct GroupSql {
  struct Statement {
    std::string sql;
    uint64_t rows = 0;  // It changes exactly so many rows, or an expectation is wrong.
  };
  std::vector<Statement> statements;
  // Members that are no part of it: they must be the first of their gtrid, and are known not to be, or not to be known
  // to be (born before the horizon). Only what is there is to be looked at.
  std::vector<size_t> refused;
  // Of the others, when the oldest gtrid was born that must have no record but this one (Transition::must_be_first), or
  // forever ago if nobody knows; nullopt: none must.
  absl::optional<absl::Time> oldest_first;
};

// Plans the group as if the expectation of every gtrid's first transition held. `results` are the answers if the rows
// changed are as many as planned: APPLIED, or CONFLICT for a transition that contradicts an earlier one of the group.
// `horizon` is as far as it is known already, in microseconds.
GroupSql PlanGroup(absl::Span<const PendingTransition> group, absl::Span<TransitionResult> results, int64_t horizon);

// One transition alone. `rows` is 1 if it applies, 0 (or, for a creation, a duplicate key) if it conflicts.
std::string SqlOf(const PendingTransition& pending);

}  // namespace assent

#endif  // ASSENT_STORE_GROUP_SQL_H_
