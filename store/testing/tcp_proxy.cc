#include "store/testing/tcp_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <vector>

namespace assent {
namespace {

constexpr int kPollMs = 20;
constexpr int kMessagesBeforeCut = 12;

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

int ConnectTo(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Loopback(port);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    const int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
  }
  close(fd);
  return -1;
}

bool WriteAll(int fd, const std::string& data) {
  for (size_t done = 0; done < data.size();) {
    const ssize_t size = send(fd, data.data() + done, data.size() - done, MSG_NOSIGNAL);
    if (size <= 0) return false;
    done += static_cast<size_t>(size);
  }
  return true;
}

// Takes one whole message of the protocol (three bytes of length, one of number, the body) off `buffer`; false if there
// is none yet.
bool TakeMessage(std::string* buffer, std::string* message) {
  if (buffer->size() < 4) return false;
  const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<unsigned char>((*buffer)[i])); };
  const size_t size = 4 + byte(0) + (byte(1) << 8) + (byte(2) << 16);
  if (buffer->size() < size) return false;
  *message = buffer->substr(0, size);
  buffer->erase(0, size);
  return true;
}

bool Is(const std::string& message, const std::string& statement) { return message.substr(4) == "\x03" + statement; }

}  // namespace

TcpProxy::TcpProxy(int target_port) : target_port_(target_port) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), size) != 0 || listen(listener_, 64) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    std::abort();
  }
  port_ = ntohs(address.sin_port);
  accepting_ = std::thread([this] { AcceptLoop(); });
}

TcpProxy::~TcpProxy() {
  stop_ = true;
  accepting_.join();
  std::list<std::thread> serving;
  {
    MutexLock lock(&mu_);
    serving.swap(serving_);
  }
  for (std::thread& thread : serving) thread.join();
  close(listener_);
}

void TcpProxy::On(const std::string& statement, Commit what, int times) {
  MutexLock lock(&mu_);
  statement_ = statement;
  on_commit_ = what;
  commits_left_ = times;
}

TcpProxy::Commit TcpProxy::TakeCommit(const std::string& message) {
  MutexLock lock(&mu_);
  if (on_commit_ == Commit::kPass || commits_left_ == 0 || !Is(message, statement_)) return Commit::kPass;
  --commits_left_;
  ++commits_hit_;
  return on_commit_;
}

void TcpProxy::AcceptLoop() {
  while (!stop_) {
    pollfd fd = {listener_, POLLIN, 0};
    if (poll(&fd, 1, kPollMs) <= 0) continue;
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) continue;
    const int one = 1;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    const int number = ++connections_;
    MutexLock lock(&mu_);
    serving_.emplace_back([this, client, number] { Serve(client, number); });
  }
}

void TcpProxy::Serve(int client, int number) {
  const int server = ConnectTo(target_port_);
  const int every = cut_every_;
  const bool doomed = every > 0 && number % every == 0;
  int messages = 0;
  bool deaf = false;  // The client hears nothing more.
  bool held = false;  // A COMMIT waits here.
  std::string from_client;
  std::string message;
  std::vector<char> chunk(1 << 16);
  bool open = server >= 0;
  while (open && !stop_) {
    if (held && released_) {
      held = false;
      if (!WriteAll(server, message)) break;
    }
    pollfd fds[2] = {{held ? -1 : client, POLLIN, 0}, {server, POLLIN, 0}};
    if (poll(fds, 2, kPollMs) <= 0) continue;
    if (fds[1].revents != 0) {
      const ssize_t size = recv(server, chunk.data(), chunk.size(), 0);
      if (size <= 0) break;
      if (delay_ms_ > 0) std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms_));
      if (!deaf && !WriteAll(client, std::string(chunk.data(), static_cast<size_t>(size)))) break;
    }
    if (fds[0].revents != 0) {
      const ssize_t size = recv(client, chunk.data(), chunk.size(), 0);
      if (size <= 0) break;
      from_client.append(chunk.data(), static_cast<size_t>(size));
    }
    while (open && !held && TakeMessage(&from_client, &message)) {
      if (doomed && ++messages > kMessagesBeforeCut) {
        ++cut_;
        open = false;
        break;
      }
      const Commit what = TakeCommit(message);
      held = what == Commit::kHoldRequest;
      deaf = deaf || what == Commit::kLoseAnswer || what == Commit::kHoldRequest;
      if (what == Commit::kCutBefore) open = false;
      if (!held && open && !WriteAll(server, message)) open = false;
      if (what == Commit::kCutAfter) {
        // The server is to find the COMMIT before it finds the end.
        recv(server, chunk.data(), chunk.size(), 0);
        open = false;
      }
    }
  }
  close(client);
  // What is held outlives its client, as a packet in a network does.
  while (held && !released_ && !stop_) std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
  if (held && released_) {
    WriteAll(server, message);
    recv(server, chunk.data(), chunk.size(), 0);
  }
  if (server >= 0) close(server);
}

}  // namespace assent
