#include "store/horizon.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "base/errors.h"
#include "base/xid.h"

namespace assent {

int64_t HorizonBehind(absl::string_view gtrid, int64_t ended) {
  const absl::Time birth = BirthOf(gtrid).value_or(absl::UnixEpoch());
  return (std::max(ended, absl::ToUnixMicros(birth)) / 1000 + 1) * 1000;
}

int64_t HorizonAt(absl::Time time) {
  const absl::Duration since_1970 = std::max(time - absl::UnixEpoch(), absl::ZeroDuration());
  return absl::ToInt64Milliseconds(absl::Ceil(since_1970, absl::Milliseconds(1))) * 1000;
}

bool IsBeforeHorizon(absl::string_view gtrid, int64_t horizon) {
  const absl::optional<absl::Time> birth = BirthOf(gtrid);
  return !birth || *birth < absl::FromUnixMicros(horizon);
}

absl::Status MayHaveBeenDeleted(absl::string_view gtrid) {
  return MakeError(
      Reason::OUTCOME_IN_DOUBT,
      absl::StrCat("there is no record of global transaction '", gtrid, "', which was begun at ",
                   absl::FormatTime(BirthOf(gtrid).value_or(absl::InfinitePast()), absl::UTCTimeZone()),
                   ": too long ago to be sure that there never was one. If it was decided, its record has been deleted "
                   "since (retention), and only its rows can tell how it ended; what is still prepared of it is rolled "
                   "back"),
      {{"gtrid", std::string(gtrid)}});
}

}  // namespace assent
