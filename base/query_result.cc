#include "base/query_result.h"

namespace assent {

const std::vector<std::vector<absl::optional<std::string>>>& QueryResult::rows() const {
  static const auto* const kNone = new std::vector<std::vector<absl::optional<std::string>>>();
  for (const ResultSet& result : results) {
    if (!result.columns.empty()) return result.rows;
  }
  return *kNone;
}

uint64_t QueryResult::affected_rows() const {
  for (auto result = results.rbegin(); result != results.rend(); ++result) {
    if (result->columns.empty()) return result->affected_rows;
  }
  return 0;
}

}  // namespace assent
