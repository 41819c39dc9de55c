#include "base/query_result.h"

#include "absl/strings/numbers.h"

namespace assent {

int64_t NumberIn(const absl::optional<std::string>& cell) {
  int64_t number = 0;
  return cell && absl::SimpleAtoi(*cell, &number) ? number : 0;
}

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
