// Passes a fault point as often as its argument says, for fault_point_test.cc.
#include <cstdio>
#include <cstdlib>

#include "base/fault_point.h"

int main(int argc, char** argv) {
  const int times = argc > 1 ? std::atoi(argv[1]) : 0;
  for (int i = 1; i <= times; ++i) {
    ASSENT_FAULT_POINT(kSdkVoteBefore);
    std::printf("%d\n", i);
    std::fflush(stdout);
  }
  return 0;
}
