// ParticipantLine: how the process that begins a transaction reaches the one that runs a branch, over a Unix socket: a
// line of text there, a line back. One line is one thread there, with a session of its own.
//
//   <gtrid> <statement>   runs a branch of it, votes, waits for the decision and finishes:  "ok", or why not
//   stats                 how much the process has sent so far:  "<calls to assentd> <round trips>"
#ifndef ASSENT_TESTS_BENCH_PARTICIPANT_LINE_H_
#define ASSENT_TESTS_BENCH_PARTICIPANT_LINE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace assent {

constexpr absl::string_view kStats = "stats";

// Thread-compatible. Dies if the other end is lost.
class ParticipantLine {
 public:
  // Waits for the participant to be there.
  explicit ParticipantLine(const std::string& socket_path);
  // The other end of one that was accepted.
  explicit ParticipantLine(int fd) : fd_(fd) {}
  ~ParticipantLine();
  ParticipantLine(const ParticipantLine&) = delete;
  ParticipantLine& operator=(const ParticipantLine&) = delete;

  void Send(absl::string_view line);
  // Empty: the other end has gone.
  std::string Receive();

 private:
  const int fd_;
};

}  // namespace assent

#endif  // ASSENT_TESTS_BENCH_PARTICIPANT_LINE_H_
