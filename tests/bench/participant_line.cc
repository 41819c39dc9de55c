#include "tests/bench/participant_line.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

namespace assent {
namespace {

constexpr int kTries = 1000;

int ConnectTo(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  CHECK_LT(path.size(), sizeof(address.sun_path));
  std::strcpy(address.sun_path, path.c_str());
  for (int i = 0; i < kTries; ++i) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    PCHECK(fd >= 0);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
    close(fd);
    absl::SleepFor(absl::Milliseconds(10));
  }
  LOG(FATAL) << "nobody listens at " << path;
  return -1;
}

}  // namespace

ParticipantLine::ParticipantLine(const std::string& socket_path) : fd_(ConnectTo(socket_path)) {}

ParticipantLine::~ParticipantLine() { close(fd_); }

void ParticipantLine::Send(absl::string_view line) {
  const std::string text = absl::StrCat(line, "\n");
  PCHECK(send(fd_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
}

std::string ParticipantLine::Receive() {
  std::string line;
  char buffer[512];
  while (line.empty() || line.back() != '\n') {
    const ssize_t got = recv(fd_, buffer, sizeof(buffer), 0);
    if (got <= 0) return "";
    line.append(buffer, static_cast<size_t>(got));
  }
  line.pop_back();
  return line;
}

}  // namespace assent
