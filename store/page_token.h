// Page tokens of List: opaque to callers, bound to the order and the filter they were made for.
#ifndef ASSENT_STORE_PAGE_TOKEN_H_
#define ASSENT_STORE_PAGE_TOKEN_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/store.h"

namespace assent {

// A token for the page of `query` that continues behind `position` (from 1). The order and number of mentions of a
// state make no difference.
std::string EncodePageToken(int64_t position, const ListQuery& query);

// The position behind which the page of `query` begins: that of its token, or what comes before every position in its
// order. INVALID_PAGE_TOKEN if the token was not made by EncodePageToken, or for another order or other states.
absl::StatusOr<int64_t> DecodePageToken(const ListQuery& query);

}  // namespace assent

#endif  // ASSENT_STORE_PAGE_TOKEN_H_
