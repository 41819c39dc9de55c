// QueryResult: what a database answered to one statement, or to several that were sent together.
#ifndef ASSENT_BASE_QUERY_RESULT_H_
#define ASSENT_BASE_QUERY_RESULT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "base/db_error.h"

namespace assent {

// What one statement answered. All rows are in memory.
struct ResultSet {
  std::vector<std::string> columns;                            // Empty: the statement has no rows to answer.
  std::vector<std::vector<absl::optional<std::string>>> rows;  // nullopt: SQL NULL. Bytes as they came.
  uint64_t affected_rows = 0;                                  // Of a statement without columns.
  uint64_t last_insert_id = 0;
  unsigned int warnings = 0;
  // MariaDB's and MySQL's report on the state of the transaction, if one came along (session_track_transaction_info).
  absl::optional<std::string> transaction_state;
  // PostgreSQL's command tag, e.g. "INSERT 0 1".
  std::string command_tag;
};

// The number that a cell holds; 0 for NULL and for what is no whole number.
int64_t NumberIn(const absl::optional<std::string>& cell);

struct QueryResult {
  DbError error;  // Of the statement that failed; the ones behind it did not run.
  // Of the statements that succeeded, in order: one for a plain statement, more for a procedure or several statements.
  std::vector<ResultSet> results;

  bool ok() const { return error.ok(); }
  // The rows of the first result that has columns; none if there is none.
  const std::vector<std::vector<absl::optional<std::string>>>& rows() const;
  // The rows changed by the last statement without columns; 0 if there is none.
  uint64_t affected_rows() const;
};

}  // namespace assent

#endif  // ASSENT_BASE_QUERY_RESULT_H_
