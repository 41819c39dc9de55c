// That each contender does what the table says of it. How fast it is depends on the machine.
#include "tests/bench/contenders.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "participant_sdk/cpp/completion_reporter.h"
#include "tests/bench/coordinator_alone.h"

namespace assent {
namespace {

using ::testing::AllOf;
using ::testing::DoubleNear;
using ::testing::Ge;
using ::testing::Le;

// A window has a beginning and an end, where a transaction is counted half.
constexpr double kNear = 0.2;
// What assentd writes for itself now and then (the epochs of its resources, its presence): so many in a window of a
// second, and the fewer transactions a slow machine makes in that second, the more falls to each.
double Housekeeping(const Window& window) { return 0.1 + 10 / window.per_second; }

TEST(ContendersTest, EachDoesWhatItSays) {
  BenchRig rig({});
  const auto measure = [&](Contender contender) { return rig.Measure(contender, 2, absl::Seconds(1)); };
  const Window raw = measure(Contender::kRaw);
  EXPECT_THAT(raw.round_trips, DoubleNear(6, kNear)) << "START and the statement, PREPARE, COMMIT, on two servers";
  EXPECT_EQ(raw.calls, 0);
  EXPECT_LE(raw.coordinator_syncs, Housekeeping(raw));
  EXPECT_GT(raw.database_syncs, 0);
  const Window one = measure(Contender::kOneProcess);
  EXPECT_THAT(one.round_trips, DoubleNear(6, kNear));
  EXPECT_THAT(one.calls, AllOf(Ge(1), Le(2 + kNear))) << "Finalize, a share of Completed";
  EXPECT_THAT(one.coordinator_syncs, AllOf(Ge(0.3), Le(1 + kNear))) << "the decision, shared by two at best";
  const Window split = measure(Contender::kSplitProcesses);
  EXPECT_THAT(split.round_trips, DoubleNear(6, kNear));
  EXPECT_THAT(split.calls, AllOf(Ge(5 - kNear), Le(7 + kNear)))
      << "CreateGlobal; CreateBranches, Prepared, Completed each";
  const Window local = measure(Contender::kLocal);
  EXPECT_THAT(local.round_trips, DoubleNear(2, kNear));
  EXPECT_LE(local.coordinator_syncs, Housekeeping(local));
  const Window one_local = measure(Contender::kOneLocal);
  EXPECT_THAT(one_local.round_trips, DoubleNear(1, kNear));
  EXPECT_EQ(one_local.calls, 0);
  const Window one_branch = measure(Contender::kOneBranch);
  EXPECT_THAT(one_branch.round_trips, DoubleNear(2, kNear)) << "START and the statement; COMMIT ONE PHASE";
  EXPECT_LE(one_branch.calls, 1 + kNear) << "a share of Completed";
  // Nobody waits for them: so many reports a second, however many transactions share them.
  const double reports = absl::Seconds(1) / CompletionReporter::kLinger;
  EXPECT_LE(one_branch.coordinator_syncs, Housekeeping(one_branch) + reports / one_branch.per_second);
  for (const Window* window : {&raw, &one, &split, &local, &one_local, &one_branch}) {
    EXPECT_GT(window->per_second, 0);
    EXPECT_LE(window->p50_ms, window->p99_ms);
    EXPECT_LE(window->p99_ms, window->p999_ms);
    EXPECT_GT(window->worker_cpu_us, 0);
    EXPECT_GT(window->database_cpu_us, 0);
  }
}

TEST(ContendersTest, ASlowDiskIsSlow) {
  BenchRigOptions options;
  options.slow_disk = absl::Milliseconds(20);
  BenchRig rig(options);
  EXPECT_GT(rig.Measure(Contender::kRaw, 1, absl::Seconds(1)).p50_ms, 40) << "PREPARE and COMMIT wait for the disk";
}

TEST(CoordinatorAloneTest, IsMeasured) {
  const AloneResult result = MeasureAlone(/*callers=*/4, /*rounds=*/1, absl::Seconds(1));
  EXPECT_GT(result.noop_per_second, 0);
  EXPECT_GT(result.echo_per_second, result.noop_per_second) << "an echo does less";
  EXPECT_THAT(result.forced_writes_per_commit, AllOf(Ge(0.05), Le(1.2)));
  EXPECT_GT(BytesPerOpenTransaction(1000), 0);
}

}  // namespace
}  // namespace assent
