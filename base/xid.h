// Names of transactions: what a gtrid and a bqual may look like, and how new ones are made.
//
// An XA xid is (format_id, gtrid, bqual). MariaDB ignores the format id when it compares xids, so the cluster's prefix
// of the gtrid is what keeps one cluster's transactions apart from everybody else's.
#ifndef ASSENT_BASE_XID_H_
#define ASSENT_BASE_XID_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

namespace assent {

// "ASNT" as a big-endian integer; fits MariaDB's 0..2147483647. Never changes: recovery knows our branches by it.
constexpr int64_t kFormatId = 0x41534E54;
// X/Open XA: at most 64 bytes each.
constexpr size_t kMaxIdBytes = 64;
// `<cluster>-<26 characters of ULID>` must fit kMaxIdBytes.
constexpr size_t kMaxClusterBytes = 32;

struct Xid {
  std::string gtrid;
  std::string bqual;

  bool operator==(const Xid& other) const { return gtrid == other.gtrid && bqual == other.bqual; }
  bool operator<(const Xid& other) const { return gtrid != other.gtrid ? gtrid < other.gtrid : bqual < other.bqual; }
};

// True for 1 to 64 bytes of [A-Za-z0-9._:-].
bool IsValidId(absl::string_view id);
// OK, or INVALID_GTRID / INVALID_BQUAL with words that say what is wrong (never the raw bytes: they may be anything).
absl::Status ValidateGtrid(absl::string_view gtrid);
absl::Status ValidateBqual(absl::string_view bqual);
// A cluster's name: 1 to 32 bytes of [A-Za-z0-9._:]; no '-', which ends the prefix.
bool IsValidCluster(absl::string_view cluster);

// The SQL literals `X'<gtrid>',X'<bqual>',<format id>` of a valid xid. Hex, so that no byte needs quoting.
std::string XidSqlLiteral(const Xid& xid);

// A new gtrid `<cluster>-<ULID>`: 48 bits of milliseconds and 80 random bits in Crockford's base 32, so that ids sort
// by birth time and the time can be read in XA RECOVER. Thread-safe. Unique by its 80 random bits, also across
// processes.
std::string NewGtrid(absl::string_view cluster, absl::Time now);
// What the gtrids of a block begin with: a new gtrid without its last four characters; and one of the block.
// Thread-safe.
constexpr int kGtridBlockSize = 1 << 20;
std::string NewGtridBlock(absl::string_view cluster, absl::Time now);
// `index` is 0 to kGtridBlockSize - 1. Looks as if NewGtrid had made it.
std::string GtridOfBlock(absl::string_view block, int index);
// When NewGtrid, or its block, was made, to the millisecond; nullopt: it was not.
absl::optional<absl::Time> BirthOf(absl::string_view gtrid);
// True for gtrids of this cluster, whoever chose the rest.
bool HasClusterPrefix(absl::string_view gtrid, absl::string_view cluster);
// A random UUID (version 4) for request ids. Thread-safe.
std::string NewRequestId();

}  // namespace assent

#endif  // ASSENT_BASE_XID_H_
