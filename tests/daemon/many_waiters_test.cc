// Thousands of participants wait for a decision, and a waiting call holds no thread.
#include <grpcpp/grpcpp.h>

#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/daemon/daemon_test_base.h"

namespace assent {
namespace {

constexpr int kWaiters = 5000;
constexpr int kBranchesEach = 5;
constexpr int kGlobals = kWaiters / kBranchesEach;
constexpr int kChannels = 4;

// A line of /proc/PID/status, e.g. Threads, VmRSS (KiB).
int64_t ProcStatus(pid_t pid, const std::string& key) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> words = absl::StrSplit(line, absl::ByAnyChar(": \t"), absl::SkipEmpty());
    int64_t value = 0;
    if (words.size() >= 2 && words[0] == key && absl::SimpleAtoi(words[1], &value)) return value;
  }
  return -1;
}

struct Waiter {
  grpc::ClientContext context;
  v1::PreparedRequest request;
  v1::PreparedResponse response;
  grpc::Status status;
  std::unique_ptr<grpc::ClientAsyncResponseReader<v1::PreparedResponse>> reader;
};

std::string Gtrid(int i) { return absl::StrCat("test-g", i); }

class ManyWaitersTest : public DaemonTest {};

TEST_F(ManyWaitersTest, FiveThousandWaitWithoutAThreadEach) {
  StartDaemon();
  std::vector<std::string> bquals;
  for (int i = 0; i < kBranchesEach; ++i) bquals.push_back(absl::StrCat("b", i));
  for (int i = 0; i < kGlobals; ++i) {
    const auto created = stubs_->Create(CreateOf(Gtrid(i), bquals, absl::Minutes(10)));
    ASSERT_TRUE(created.ok()) << created.status();
  }
  std::vector<std::unique_ptr<v1::CoordinatorService::Stub>> stubs;
  for (int i = 0; i < kChannels; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stubs.push_back(v1::CoordinatorService::NewStub(
        grpc::CreateCustomChannel(daemon_->address(), grpc::InsecureChannelCredentials(), arguments)));
  }
  grpc::CompletionQueue queue;
  std::vector<Waiter> waiters(kWaiters);
  for (int i = 0; i < kWaiters; ++i) {
    Waiter& waiter = waiters[i];
    waiter.context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(5));
    waiter.request =
        VotesOf(Gtrid(i / kBranchesEach), {bquals[i % kBranchesEach]}, v1::VOTE_KIND_PREPARED, v1::WAIT_DECIDED);
    waiter.reader = stubs[i % kChannels]->AsyncPrepared(&waiter.context, waiter.request, &queue);
    waiter.reader->Finish(&waiter.response, &waiter.status, &waiter);
  }
  // All have arrived once all votes are stored.
  for (int i = 0; i < kGlobals; ++i) {
    for (;;) {
      const auto found = stubs_->Get(Gtrid(i));
      ASSERT_TRUE(found.ok()) << found.status();
      int prepared = 0;
      for (const v1::Branch& branch : found->global().branches()) {
        prepared += branch.state() == v1::Branch::STATE_PREPARED;
      }
      if (prepared == kBranchesEach) break;
      absl::SleepFor(absl::Milliseconds(10));
    }
  }
  const int64_t threads = ProcStatus(daemon_->pid(), "Threads");
  const int64_t rss_mib = ProcStatus(daemon_->pid(), "VmRSS") / 1024;
  std::cout << kWaiters << " calls wait: " << threads << " threads, " << rss_mib << " MiB resident" << std::endl;
  RecordProperty("threads", static_cast<int>(threads));
  RecordProperty("rss_mib", static_cast<int>(rss_mib));
  EXPECT_GT(threads, 0);
  EXPECT_LT(threads, 50);
  if (!kSanitized) {
    EXPECT_LT(rss_mib, 500);
  }
  // Nobody has been answered yet, and others are served meanwhile.
  void* tag = nullptr;
  bool ok = false;
  EXPECT_EQ(queue.AsyncNext(&tag, &ok, std::chrono::system_clock::now()), grpc::CompletionQueue::TIMEOUT);
  ExpectNormalTransaction();

  for (int i = 0; i < kGlobals; ++i) {
    const v1::Decision decision = i % 2 == 0 ? v1::DECISION_COMMIT : v1::DECISION_ROLLBACK;
    const auto decided = stubs_->Finalize(FinalizeOf(Gtrid(i), decision));
    ASSERT_TRUE(decided.ok()) << decided.status();
  }
  for (int i = 0; i < kWaiters; ++i) {
    ASSERT_EQ(queue.AsyncNext(&tag, &ok, std::chrono::system_clock::now() + std::chrono::minutes(1)),
              grpc::CompletionQueue::GOT_EVENT);
  }
  for (int i = 0; i < kWaiters; ++i) {
    ASSERT_TRUE(waiters[i].status.ok()) << waiters[i].status.error_message();
    const v1::Decision expected = i / kBranchesEach % 2 == 0 ? v1::DECISION_COMMIT : v1::DECISION_ROLLBACK;
    ASSERT_EQ(waiters[i].response.status().decision(), expected) << i;
  }
  ExpectNormalTransaction();
}

}  // namespace
}  // namespace assent
