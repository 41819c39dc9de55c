#include "base/address.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/errors.h"

namespace assent {
namespace {

constexpr size_t kMaxSocketBytes = 107;
constexpr size_t kMaxHostBytes = 255;

absl::Status Bad(absl::string_view problem) {
  return MakeError(Reason::INVALID_RESOURCE,
                   absl::StrCat("address ", problem, "; it must be host:port or unix:/path/of/socket"),
                   {{"field", "address"}, {"problem", std::string(problem)}});
}

bool IsPrintable(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isgraph(c); });
}

}  // namespace

absl::StatusOr<Address> ParseAddress(absl::string_view text) {
  Address address;
  if (text.empty()) return Bad("is empty");
  if (absl::ConsumePrefix(&text, "unix:")) {
    if (!absl::StartsWith(text, "/")) return Bad("names a socket without an absolute path");
    if (text.size() > kMaxSocketBytes) return Bad("names a socket whose path is longer than 107 bytes");
    if (text.find('\0') != absl::string_view::npos) return Bad("has a NUL byte");
    address.socket = std::string(text);
    return address;
  }
  if (!IsPrintable(text)) return Bad("has a byte that no host name has");
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return Bad("has no port");
  absl::string_view host = text.substr(0, colon);
  const absl::string_view port = text.substr(colon + 1);
  if (absl::ConsumePrefix(&host, "[")) {
    if (!absl::ConsumeSuffix(&host, "]")) return Bad("has '[' without ']'");
  } else if (host.find(':') != absl::string_view::npos) {
    return Bad("has an IPv6 address without brackets");
  }
  if (host.empty()) return Bad("has no host");
  if (host.size() > kMaxHostBytes) return Bad("has a host longer than 255 bytes");
  if (port.empty() || !std::all_of(port.begin(), port.end(), absl::ascii_isdigit) ||
      !absl::SimpleAtoi(port, &address.port) || address.port < 1 || address.port > 65535) {
    return Bad("has a port that is not 1..65535");
  }
  address.host = std::string(host);
  return address;
}

std::string ToString(const Address& address) {
  if (!address.socket.empty()) return absl::StrCat("unix:", address.socket);
  if (absl::StrContains(address.host, ":")) return absl::StrCat("[", address.host, "]:", address.port);
  return absl::StrCat(address.host, ":", address.port);
}

}  // namespace assent
