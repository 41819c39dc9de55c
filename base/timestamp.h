// Between absl's time and protobuf's: microseconds on the way in (what is stored and shown), exact on the way out.
#ifndef ASSENT_BASE_TIMESTAMP_H_
#define ASSENT_BASE_TIMESTAMP_H_

#include <string>

#include "absl/time/time.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"

namespace assent {

inline void SetTime(absl::Time time, google::protobuf::Timestamp* out) {
  const int64_t us = absl::ToUnixMicros(time);
  out->set_seconds(us >= 0 ? us / 1000000 : (us - 999999) / 1000000);
  out->set_nanos(static_cast<int32_t>((us - out->seconds() * 1000000) * 1000));
}

inline absl::Time GetTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

inline void SetDuration(absl::Duration duration, google::protobuf::Duration* out) {
  absl::Duration rest;
  out->set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  out->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
}

inline absl::Duration GetDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

// RFC 3339 in UTC with milliseconds; empty for an unset time.
inline std::string FormatTime(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0 && time.nanos() == 0) return "";
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", GetTime(time), absl::UTCTimeZone());
}

}  // namespace assent

#endif  // ASSENT_BASE_TIMESTAMP_H_
