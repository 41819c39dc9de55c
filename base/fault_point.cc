#include "base/fault_point.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace assent {
namespace {

constexpr absl::Duration kPollInterval = absl::Milliseconds(1);

// What the environment asks for.
struct Armed {
  std::string name;  // Empty: nothing.
  int nth = 0;
  std::string file;
};

Armed FromEnvironment() {
  const char* const value = std::getenv("ASSENT_FAULT_POINT");
  Armed armed;
  if (value == nullptr) return armed;
  const std::vector<std::string> parts = absl::StrSplit(value, absl::MaxSplits(':', 2));
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[1], &armed.nth)) {
    std::fprintf(stderr, "ASSENT_FAULT_POINT must be <name>:<n>:<file>, not %s\n", value);
    std::abort();
  }
  armed.name = parts[0];
  armed.file = parts[2];
  return armed;
}

}  // namespace

void ReachFaultPoint(FaultPoint point) {
  static const auto* const armed = new Armed(FromEnvironment());
  static std::atomic<int> reached{0};
  if (armed->name.empty() || point == FaultPoint::kNone || InfoOf(point).name != armed->name) return;
  if (++reached != armed->nth) return;
  std::FILE* const file = std::fopen(armed->file.c_str(), "w");
  if (file == nullptr) std::abort();
  std::fclose(file);
  while (access(armed->file.c_str(), F_OK) == 0) absl::SleepFor(kPollInterval);
}

}  // namespace assent
