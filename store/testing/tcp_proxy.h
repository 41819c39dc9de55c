// A proxy between a store and its server that does to their conversation what networks do: loses the request or the
// answer of a COMMIT, is slow, cuts connections.
#ifndef ASSENT_STORE_TESTING_TCP_PROXY_H_
#define ASSENT_STORE_TESTING_TCP_PROXY_H_

#include <atomic>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace assent {

// Thread-safe.
class TcpProxy {
 public:
  // What happens to a COMMIT that a client sends as a statement of its own.
  enum class Commit {
    kPass,
    kHoldRequest,  // It stays here; both connections stay open. ReleaseHeld sends it on, however late.
    kLoseAnswer,   // The server gets it; the client hears nothing more, on an open connection.
    kCutAfter,     // The server gets it; the client's connection is cut.
    kCutBefore,    // Both connections are cut.
  };

  // Listens on a free port of 127.0.0.1 and passes everything on to `target_port` there.
  explicit TcpProxy(int target_port);
  ~TcpProxy();
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;

  int port() const { return port_; }
  // New connections go there from now on.
  void Retarget(int target_port) { target_port_ = target_port; }
  // The next `times` COMMITs; or another statement that a client sends alone.
  void OnCommit(Commit what, int times = 1) { On("COMMIT", what, times); }
  void On(const std::string& statement, Commit what, int times = 1);
  // COMMITs that had something done to them.
  int commits_hit() const { return commits_hit_; }
  void ReleaseHeld() { released_ = true; }
  // Answers are late by so much.
  void Delay(absl::Duration delay) { delay_ms_ = absl::ToInt64Milliseconds(delay); }
  // Every n-th connection is cut after a few messages; 0: none.
  void CutEvery(int n) { cut_every_ = n; }
  int connections() const { return connections_; }
  int cut() const { return cut_; }

 private:
  void AcceptLoop();
  void Serve(int client, int number);
  // What to do with the message that has just come.
  Commit TakeCommit(const std::string& message);

  int listener_ = -1;
  int port_ = 0;
  std::atomic<int> target_port_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> released_{false};
  std::atomic<int> commits_hit_{0};
  std::atomic<int64_t> delay_ms_{0};
  std::atomic<int> cut_every_{0};
  std::atomic<int> connections_{0};
  std::atomic<int> cut_{0};

  Mutex mu_;
  std::string statement_ ABSL_GUARDED_BY(mu_);
  Commit on_commit_ ABSL_GUARDED_BY(mu_) = Commit::kPass;
  int commits_left_ ABSL_GUARDED_BY(mu_) = 0;
  std::list<std::thread> serving_ ABSL_GUARDED_BY(mu_);
  std::thread accepting_;
};

}  // namespace assent

#endif  // ASSENT_STORE_TESTING_TCP_PROXY_H_
