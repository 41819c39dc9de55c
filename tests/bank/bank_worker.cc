// A worker of the bank as a process of its own: transfers until SIGTERM, then waits for the coordinator to know how
// they ended.
//
//   bank_worker BANK.CONF JOURNAL FIRST_ID LAST_ID SEED
#include <glog/logging.h>
#include <signal.h>

#include <atomic>

#include "absl/strings/numbers.h"
#include "base/errors.h"
#include "tests/bank/bank.h"

namespace assent {
namespace {

std::atomic<bool> g_stop{false};

int Main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = google::GLOG_ERROR;
  signal(SIGPIPE, SIG_IGN);
  signal(SIGTERM, [](int) { g_stop = true; });
  WorkloadOptions options;
  CHECK_EQ(argc, 6);
  CHECK(absl::SimpleAtoi(argv[3], &options.first_id) && absl::SimpleAtoi(argv[4], &options.last_id) &&
        absl::SimpleAtoi(argv[5], &options.seed));
  options.fail_fraction = 0.1;
  options.stop = &g_stop;
  const absl::StatusOr<BankConfig> config = BankConfig::Load(argv[1]);
  CHECK(config.ok()) << config.status();
  const absl::Status status = RunWorkload(*config, options, argv[2]);
  LOG_IF(ERROR, !status.ok()) << ToText(status);
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) { return assent::Main(argc, argv); }
