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
  const absl::optional<absl::Time> birth = BirthOf(gtrid);
  return MakeError(
      Reason::OUTCOME_IN_DOUBT,
      absl::StrCat("there is no record of global transaction '", gtrid, "', but there may have been one: ",
                   birth ? absl::StrCat("by its id it was begun at ", absl::FormatTime(*birth, absl::UTCTimeZone()),
                                        ", and records of that time or later have been deleted (retention), or it is "
                                        "older than the store")
                         : "its id does not tell when it was begun",
                   ". If it was decided, only its rows can tell how it ended; what is still prepared of it is rolled "
                   "back"),
      {{"gtrid", std::string(gtrid)}});
}

}  // namespace assent
