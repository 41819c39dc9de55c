#include "store/page_token.h"

#include <limits>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"

namespace assent {
namespace {

constexpr char kVersion = '1';
constexpr size_t kWordDigits = 16;
constexpr size_t kTokenSize = 1 + 2 * kWordDigits;

// FNV-1a: guards against mistakes, not against forgers (a forged position shows nothing that List would not).
uint64_t Check(int64_t position, const ListQuery& query) {
  std::string text = absl::StrCat(query.order == ListOrder::kOldestFirst ? "oldest" : "list",
                                  absl::string_view(&kVersion, 1), ":", position);
  for (const v1::Global::State state : std::set<v1::Global::State>(query.states.begin(), query.states.end())) {
    absl::StrAppend(&text, ",", static_cast<int>(state));
  }
  uint64_t hash = 14695981039346656037u;
  for (const unsigned char byte : text) hash = (hash ^ byte) * 1099511628211u;
  return hash;
}

}  // namespace

std::string EncodePageToken(int64_t position, const ListQuery& query) {
  return absl::StrCat(absl::string_view(&kVersion, 1), absl::Hex(position, absl::kZeroPad16),
                      absl::Hex(Check(position, query), absl::kZeroPad16));
}

absl::StatusOr<int64_t> DecodePageToken(const ListQuery& query) {
  const absl::string_view token = query.page_token;
  if (token.empty()) return query.order == ListOrder::kOldestFirst ? 0 : std::numeric_limits<int64_t>::max();
  if (token.size() == kTokenSize && token[0] == kVersion) {
    uint64_t position = 0;
    bool is_hex = true;
    for (const char digit : token.substr(1, kWordDigits)) {
      is_hex = is_hex && (absl::ascii_isdigit(digit) || (digit >= 'a' && digit <= 'f'));
      position = position * 16 + (absl::ascii_isdigit(digit) ? digit - '0' : digit - 'a' + 10);
    }
    // The whole token is compared with the one we would have made.
    if (is_hex && token == EncodePageToken(static_cast<int64_t>(position), query)) return position;
  }
  return MakeError(Reason::INVALID_PAGE_TOKEN,
                   "the page token is not one of this list: it must be next_page_token of the page before, with the "
                   "same order and states; begin again without a token");
}

}  // namespace assent
