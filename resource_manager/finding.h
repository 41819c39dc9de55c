// How the findings of a check (v1::Finding) are made.
#ifndef ASSENT_RESOURCE_MANAGER_FINDING_H_
#define ASSENT_RESOURCE_MANAGER_FINDING_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "assent/v1/resource_service.pb.h"
#include "base/timestamp.h"

namespace assent {

inline v1::Finding MakeFinding(absl::string_view check, v1::Finding::Severity severity, absl::string_view detail,
                               absl::string_view remedy = {}) {
  v1::Finding finding;
  finding.set_check(std::string(check));
  finding.set_severity(severity);
  finding.set_detail(std::string(detail));
  finding.set_remedy(std::string(remedy));
  return finding;
}
inline v1::Finding OkFinding(absl::string_view check, absl::string_view detail) {
  return MakeFinding(check, v1::Finding::SEVERITY_OK, detail);
}
inline v1::Finding WarningFinding(absl::string_view check, absl::string_view detail, absl::string_view remedy) {
  return MakeFinding(check, v1::Finding::SEVERITY_WARNING, detail, remedy);
}
inline v1::Finding ErrorFinding(absl::string_view check, absl::string_view detail, absl::string_view remedy) {
  return MakeFinding(check, v1::Finding::SEVERITY_ERROR, detail, remedy);
}

// What is wrong about one thing, and what to do about each part of it.
class Risks {
 public:
  explicit Risks(absl::string_view check) : check_(check) {}
  void Add(absl::string_view detail, absl::string_view remedy) {
    absl::StrAppend(&detail_, detail_.empty() ? "" : "; ", detail);
    absl::StrAppend(&remedy_, remedy_.empty() ? "" : " ", remedy);
  }
  // A warning of all of them, or `ok` if there are none.
  v1::Finding Judge(absl::string_view ok) const {
    return detail_.empty() ? OkFinding(check_, ok) : WarningFinding(check_, detail_, remedy_);
  }

 private:
  const std::string check_;
  std::string detail_;
  std::string remedy_;
};

// How far a server's clock may be from ours.
constexpr absl::Duration kClockTolerance = absl::Seconds(2);
// `offset`: the server's clock minus this machine's; `error`: how wrong that may be at most.
inline v1::Finding ClockFinding(absl::Duration offset, absl::Duration error) {
  constexpr absl::string_view kCheck = "clock";
  const absl::Duration off = absl::AbsDuration(offset);
  if (off - error <= kClockTolerance) return OkFinding(kCheck, "the server's clock shows the coordinator's time");
  return WarningFinding(
      kCheck,
      absl::StrCat(
          "the server's clock is ", absl::FormatDuration(absl::Trunc(off, absl::Milliseconds(1))),
          offset > absl::ZeroDuration() ? " ahead of" : " behind",
          " the coordinator's: times in evidence do not fit together, and a new life of the server is harder to "
          "tell from the last one"),
      "timedatectl set-ntp true  # on both machines.");
}

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_FINDING_H_
