// Many callers on one stream; a coordinator that breaks it; one that has none.
#include "participant_sdk/cpp/coordinator_connection.h"

#include <arpa/inet.h>
#include <glog/logging.h>
#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "gtest/gtest.h"
#include "tests/daemon/daemon_test_base.h"

namespace assent {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

v1::CreateGlobalRequest Named(const std::string& gtrid) { return CreateOf(gtrid, {"a"}); }

class CoordinatorConnectionTest : public DaemonTest {};

TEST_F(CoordinatorConnectionTest, EveryCallerGetsItsOwnAnswer) {
  StartDaemon();
  CoordinatorConnection connection(daemon_->address(), {});
  std::vector<std::thread> callers;
  std::atomic<int> right{0};
  for (int caller = 0; caller < 16; ++caller) {
    callers.emplace_back([&, caller] {
      for (int i = 0; i < 50; ++i) {
        const std::string gtrid = absl::StrCat("test-", caller, ".", i);
        const auto created = connection.CreateGlobal(Named(gtrid), absl::Now() + kPatience);
        if (created.ok() && created->gtrid() == gtrid) ++right;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(right, 16 * 50);
}

// Whoever waits for long, gives up and comes back is not given what belongs to somebody else.
TEST_F(CoordinatorConnectionTest, ACallThatIsGivenUpDisturbsNoOther) {
  StartDaemon();
  CoordinatorConnection connection(daemon_->address(), {});
  ASSERT_TRUE(connection.CreateGlobal(Named("test-w"), absl::Now() + kPatience).ok());
  std::thread waiter([&] {
    v1::PreparedRequest wait;
    wait.set_gtrid("test-w");
    const auto status = connection.Prepared(wait, absl::Now() + absl::Milliseconds(300));
    if (status.ok()) {
      EXPECT_EQ(status->decision(), v1::DECISION_UNSPECIFIED);
    } else {  // A slow machine: not even the last answer came in time.
      EXPECT_EQ(ReasonOf(status.status()), Reason::COORDINATOR_UNREACHABLE) << status.status();
    }
  });
  for (int i = 0; i < 300; ++i) {
    const auto created = connection.CreateGlobal(Named(absl::StrCat("test-o", i)), absl::Now() + kPatience);
    ASSERT_TRUE(created.ok()) << created.status();
    EXPECT_EQ(created->gtrid(), absl::StrCat("test-o", i));
  }
  waiter.join();
}

TEST_F(CoordinatorConnectionTest, ABrokenStreamIsMadeAnewAndItsCallsRepeated) {
  StartDaemon();
  CoordinatorConnection connection(daemon_->address(), {});
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0}, done{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 8; ++caller) {
    callers.emplace_back([&, caller] {
      for (int i = 0; !stop; ++i) {
        const auto created =
            connection.CreateGlobal(Named(absl::StrCat("test-b", caller, ".", i)), absl::Now() + kPatience);
        ++(created.ok() ? done : failed);
      }
    });
  }
  for (int round = 0; round < 3; ++round) {
    absl::SleepFor(absl::Milliseconds(300));
    const int before = done;
    daemon_->Kill9();
    ASSERT_TRUE(daemon_->Restart().ok());
    while (done == before) absl::SleepFor(absl::Milliseconds(10));
  }
  stop = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(failed, 0);
}

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// Passes connections on to a port of this machine. Those that are there when Swallow is called stay open, and nothing
// gets through them any more.
class Relay {
 public:
  explicit Relay(int target) : target_(target) {
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof(address);
    PCHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(listener_, SOMAXCONN) == 0 &&
           getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    threads_.emplace_back([this] { Accept(); });
  }
  ~Relay() {
    stop_ = true;
    for (size_t i = 0; i < threads_.size(); ++i) threads_[i].join();  // The first one adds the others.
    close(listener_);
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  void Swallow() { ++epoch_; }

 private:
  void Accept() {
    while (!stop_) {
      pollfd come{listener_, POLLIN, 0};
      if (poll(&come, 1, kPollMs) != 1) continue;
      const int client = accept(listener_, nullptr, nullptr);
      threads_.emplace_back([this, client, epoch = epoch_.load()] { PassOn(client, epoch); });
    }
  }
  void PassOn(int client, int epoch) {
    const int server = socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = Loopback(target_);
    PCHECK(connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    std::array<char, 65536> data;
    for (bool open = true; open && !stop_;) {
      pollfd ends[] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
      const bool swallowed = epoch != epoch_;
      if (poll(ends, swallowed ? 0 : 2, kPollMs) <= 0) continue;
      for (const pollfd& end : ends) {
        if (end.revents == 0) continue;
        const ssize_t size = recv(end.fd, data.data(), data.size(), 0);
        const int other = end.fd == client ? server : client;
        open = open && size > 0 && send(other, data.data(), static_cast<size_t>(size), MSG_NOSIGNAL) == size;
      }
    }
    close(client);
    close(server);
  }

  static constexpr int kPollMs = 50;
  const int target_;
  const int listener_ = socket(AF_INET, SOCK_STREAM, 0);
  int port_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<int> epoch_{0};
  std::deque<std::thread> threads_;
};

// Nobody says that the connection is dead. Without a look at it a call would wait there until its patience ends.
TEST_F(CoordinatorConnectionTest, ANetworkThatSwallowsEverythingIsNoticed) {
  StartDaemon();
  Relay relay(daemon_->port());
  CoordinatorConnection connection(relay.address(), {});
  ASSERT_TRUE(connection.CreateGlobal(Named("test-a"), absl::Now() + kPatience).ok());
  relay.Swallow();
  const absl::Time begun = absl::Now();
  const auto created = connection.CreateGlobal(Named("test-b"), begun + absl::Minutes(2));
  EXPECT_TRUE(created.ok()) << created.status();
  EXPECT_LT(absl::Now() - begun, absl::Seconds(45));
}

// A coordinator of before there was a stream: only unary calls.
class OldCoordinator : public v1::CoordinatorService::Service {
 public:
  grpc::Status ReserveGtrids(grpc::ServerContext*, const v1::ReserveGtridsRequest*,
                             v1::ReserveGtridsResponse* response) override {
    response->set_prefix("old-");
    return grpc::Status::OK;
  }
};

TEST(OldCoordinatorTest, IsCalledWithoutAStream) {
  OldCoordinator service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  CoordinatorConnection connection(absl::StrCat("127.0.0.1:", port), {});
  for (int i = 0; i < 2; ++i) {
    const auto reserved = connection.ReserveGtrids({}, absl::Now() + kPatience);
    ASSERT_TRUE(reserved.ok()) << reserved.status();
    EXPECT_EQ(reserved->prefix(), "old-");
  }
}

TEST_F(CoordinatorConnectionTest, TheStreamCanBeSwitchedOff) {
  StartDaemon();
  ClientOptions options;
  options.call_stream = false;
  CoordinatorConnection connection(daemon_->address(), options);
  EXPECT_TRUE(connection.CreateGlobal(Named("test-u"), absl::Now() + kPatience).ok());
}

TEST_F(CoordinatorConnectionTest, ErrorsKeepTheirReason) {
  StartDaemon();
  CoordinatorConnection connection(daemon_->address(), {});
  v1::FinalizeRequest unknown;
  unknown.set_gtrid("test-unknown");
  unknown.set_decision(v1::DECISION_COMMIT);
  const absl::Status status = connection.Finalize(unknown, absl::Now() + kPatience).status();
  EXPECT_EQ(ReasonOf(status), Reason::GLOBAL_NOT_FOUND) << status;
}

}  // namespace
}  // namespace assent
