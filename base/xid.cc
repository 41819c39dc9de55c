#include "base/xid.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"

namespace assent {
namespace {

bool IsIdChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
         c == ':' || c == '-';
}

// Says what is wrong without repeating bytes that may be anything.
absl::Status ValidateId(absl::string_view id, Reason reason, absl::string_view field) {
  if (IsValidId(id)) return absl::OkStatus();
  std::string problem;
  if (id.empty()) {
    problem = "is empty";
  } else if (id.size() > kMaxIdBytes) {
    problem = absl::StrCat("has ", id.size(), " bytes");
  } else {
    const auto bad = std::find_if_not(id.begin(), id.end(), IsIdChar);
    problem = absl::StrCat("has the byte 0x", absl::Hex(static_cast<unsigned char>(*bad), absl::kZeroPad2),
                           " at position ", bad - id.begin());
  }
  return MakeError(reason, absl::StrCat(field, " ", problem, "; it must be 1 to 64 bytes of [A-Za-z0-9._:-]"),
                   {{"field", std::string(field)}, {"problem", problem}});
}

void FillRandom(unsigned char* bytes, size_t size) {
  while (size > 0) {
    const ssize_t got = getrandom(bytes, size, 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      std::abort();  // Without randomness ids would collide: there is no way to go on.
    }
    bytes += got;
    size -= static_cast<size_t>(got);
  }
}

// A system call per id costs more than the id: draw a page at a time, per thread.
void Random(unsigned char* bytes, size_t size) {
  thread_local unsigned char pool[512];
  thread_local size_t left = 0;
  thread_local pid_t owner = 0;
  if (left < size || owner != getpid()) {  // A forked child must not repeat its parent's ids.
    FillRandom(pool, sizeof(pool));
    left = sizeof(pool);
    owner = getpid();
  }
  left -= size;
  std::memcpy(bytes, pool + left, size);
}

// A ULID: 48 bits of milliseconds and 80 random ones, in Crockford's base 32.
constexpr char kAlphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr size_t kUlidSize = 26;
constexpr int kUlidTimeSize = 10;
constexpr int kBlockDigits = 4;  // kGtridBlockSize of them.

}  // namespace

bool IsValidId(absl::string_view id) {
  return !id.empty() && id.size() <= kMaxIdBytes && std::all_of(id.begin(), id.end(), IsIdChar);
}

absl::Status ValidateGtrid(absl::string_view gtrid) { return ValidateId(gtrid, Reason::INVALID_GTRID, "gtrid"); }
absl::Status ValidateBqual(absl::string_view bqual) { return ValidateId(bqual, Reason::INVALID_BQUAL, "bqual"); }

bool IsValidCluster(absl::string_view cluster) {
  return IsValidId(cluster) && cluster.size() <= kMaxClusterBytes && cluster.find('-') == absl::string_view::npos;
}

std::string XidSqlLiteral(const Xid& xid) {
  return absl::StrCat("X'", absl::BytesToHexString(xid.gtrid), "',X'", absl::BytesToHexString(xid.bqual), "',",
                      kFormatId);
}

std::string NewGtrid(absl::string_view cluster, absl::Time now) {
  unsigned char random[10];
  Random(random, sizeof(random));
  std::string ulid(kUlidSize, '0');
  uint64_t ms = static_cast<uint64_t>(std::max<int64_t>(0, absl::ToUnixMillis(now)));
  for (int i = kUlidTimeSize - 1; i >= 0; --i, ms >>= 5) ulid[i] = kAlphabet[ms & 31];
  for (int half = 0; half < 2; ++half) {
    uint64_t bits = 0;
    for (int i = 0; i < 5; ++i) bits = bits << 8 | random[half * 5 + i];
    for (int i = 7; i >= 0; --i, bits >>= 5) ulid[kUlidTimeSize + half * 8 + i] = kAlphabet[bits & 31];
  }
  return absl::StrCat(cluster, "-", ulid);
}

std::string NewGtridBlock(absl::string_view cluster, absl::Time now) {
  std::string block = NewGtrid(cluster, now);
  block.resize(block.size() - kBlockDigits);
  return block;
}

std::string GtridOfBlock(absl::string_view block, int index) {
  std::string gtrid(block);
  for (int shift = 5 * (kBlockDigits - 1); shift >= 0; shift -= 5) gtrid.push_back(kAlphabet[index >> shift & 31]);
  return gtrid;
}

absl::optional<absl::Time> BirthOf(absl::string_view gtrid) {
  const size_t prefix = gtrid.find('-');
  if (prefix == absl::string_view::npos || gtrid.size() != prefix + 1 + kUlidSize) return absl::nullopt;
  const absl::string_view ulid = gtrid.substr(prefix + 1);
  const absl::string_view alphabet = kAlphabet;
  uint64_t ms = 0;
  for (size_t i = 0; i < kUlidSize; ++i) {
    const size_t digit = alphabet.find(ulid[i]);
    if (digit == absl::string_view::npos || (i == 0 && digit > 7)) return absl::nullopt;
    if (i < static_cast<size_t>(kUlidTimeSize)) ms = ms << 5 | digit;
  }
  return absl::FromUnixMillis(static_cast<int64_t>(ms));
}

bool HasClusterPrefix(absl::string_view gtrid, absl::string_view cluster) {
  return gtrid.size() > cluster.size() && absl::StartsWith(gtrid, cluster) && gtrid[cluster.size()] == '-';
}

std::string NewRequestId() {
  unsigned char b[16];
  Random(b, sizeof(b));
  b[6] = (b[6] & 0x0f) | 0x40;
  b[8] = (b[8] & 0x3f) | 0x80;
  const std::string hex = absl::BytesToHexString(absl::string_view(reinterpret_cast<char*>(b), sizeof(b)));
  return absl::StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-", hex.substr(16, 4), "-",
                      hex.substr(20));
}

}  // namespace assent
