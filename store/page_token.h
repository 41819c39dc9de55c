// Page tokens of List: opaque to callers, bound to the filter they were made for.
#ifndef ASSENT_STORE_PAGE_TOKEN_H_
#define ASSENT_STORE_PAGE_TOKEN_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "assent/v1/global.pb.h"

namespace assent {

// Where the first page begins: before every position.
constexpr int64_t kFirstPage = std::numeric_limits<int64_t>::max();

// A token that continues behind `position`. The order and number of mentions of a state make no difference.
std::string EncodePageToken(int64_t position, const std::vector<v1::Global::State>& states);

// The position of a token; kFirstPage for an empty one. INVALID_PAGE_TOKEN if it was not made by EncodePageToken, or
// for other states.
absl::StatusOr<int64_t> DecodePageToken(absl::string_view token, const std::vector<v1::Global::State>& states);

}  // namespace assent

#endif  // ASSENT_STORE_PAGE_TOKEN_H_
