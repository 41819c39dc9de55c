// The threads of a store that groups its writes: one that writes, one that tells.
//
// Whatever was submitted while a group was being written becomes the next group, so groups grow with the load. Nobody
// waits for a timer but under load, where a moment more saves many a forced write (as PostgreSQL's commit_delay and
// commit_siblings do): behind a group with many forced transitions the next one waits for company.
//
// The second thread runs the `done` of a group while the first writes the next one. When nothing waits behind a small
// group, the first thread tells by itself, which saves a thread switch.
#ifndef ASSENT_STORE_WRITE_QUEUE_H_
#define ASSENT_STORE_WRITE_QUEUE_H_

#include <chrono>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "store/pending_transition.h"
#include "store/store.h"

namespace assent {

// Thread-safe.
class WriteQueue {
 public:
  struct Limits {
    int queue = 65536;  // Transitions that wait to be written or told.
    int group = 4096;   // Transitions of one group.
    // Behind a group with `busy` forced transitions or more, the next one waits until it has `company` of them, so long
    // at most. No job and no end waits for that.
    int busy = 6;
    int company = 16;
    std::chrono::microseconds gather{2000};
  };
  // Run on the writing thread, never two at once.
  struct Work {
    // Answers each transition of the group, in order.
    std::function<std::vector<TransitionResult>(const std::vector<PendingTransition>&)> apply;
    std::function<void()> after_group;
    // When nothing has been submitted for a little while; once after each busy time.
    std::function<void()> idle;
  };

  WriteQueue(Limits limits, Work work);
  ~WriteQueue() { Finish(); }

  // Returns when everything submitted is written and told, also what a `done` submitted meanwhile. Afterwards nothing
  // may be submitted. Its own function, so that a `done` can still reach the queue through its owner's pointer.
  void Finish();

  // See Store::Submit. If the queue is full, `done` is told OVERLOADED.
  void Submit(Transition transition, Store::Done done);

  // Runs `job` on the writing thread, after what was submitted before, and returns when it has run. Not from a `done`.
  void RunBlocking(const std::function<void()>& job);

 private:
  // A transition, or a job that stands between groups.
  struct Item {
    PendingTransition pending;
    Store::Done done;
    std::function<void()> job;
  };
  // The record rides along to be freed by the thread that tells: freeing what other threads made is slow.
  struct Told {
    Store::Done done;
    TransitionResult result;
    PendingTransition pending;
  };

  void WriteLoop();
  void TellLoop();
  // Waits for work; false when there is none and never will be.
  bool WaitForWork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Under load: waits for company.
  void Gather() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The next job, or the next group.
  std::vector<Item> TakeGroup() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void WriteGroup(std::vector<Item> items);
  void Tell(std::vector<Told> told);
  bool TellingDone() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return told_.empty() && !telling_; }

  const Limits limits_;
  const Work work_;

  Mutex mu_;
  CondVar work_arrived_;
  CondVar told_arrived_;
  std::deque<Item> queue_ ABSL_GUARDED_BY(mu_);
  int queued_forced_ ABSL_GUARDED_BY(mu_) = 0;  // Transitions in it.
  int queued_jobs_ ABSL_GUARDED_BY(mu_) = 0;
  int awaited_ ABSL_GUARDED_BY(mu_) = 0;         // Nobody wakes the writer for fewer of them.
  int last_forced_ ABSL_GUARDED_BY(mu_) = 0;     // Transitions of the last group.
  std::vector<Told> told_ ABSL_GUARDED_BY(mu_);  // Written; to be told by the telling thread.
  int unwritten_ ABSL_GUARDED_BY(mu_) = 0;       // Transitions in the queue or being written.
  bool telling_ ABSL_GUARDED_BY(mu_) = false;    // Somebody runs `done`s; never two at once, so they run in order.
  bool writer_waits_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool written_out_ ABSL_GUARDED_BY(mu_) = false;  // The writing thread has ended.

  std::thread writing_;
  std::thread telling_thread_;
};

}  // namespace assent

#endif  // ASSENT_STORE_WRITE_QUEUE_H_
