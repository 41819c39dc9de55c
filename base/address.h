// Where a database server listens: the one place that reads Resource.address.
#ifndef ASSENT_BASE_ADDRESS_H_
#define ASSENT_BASE_ADDRESS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace assent {

struct Address {
  // Either host and port (1..65535), or the path of a Unix socket.
  std::string host;
  int port = 0;
  std::string socket;
};

// Reads `host:port`, `[ipv6]:port` or `unix:/path/of/socket` (at most 107 bytes of path, which is what the kernel
// takes). INVALID_RESOURCE, metadata `field` = `address`, with words that say what is wrong.
absl::StatusOr<Address> ParseAddress(absl::string_view text);

// The text that ParseAddress reads.
std::string ToString(const Address& address);

}  // namespace assent

#endif  // ASSENT_BASE_ADDRESS_H_
