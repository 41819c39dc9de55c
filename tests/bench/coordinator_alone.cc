#include "tests/bench/coordinator_alone.h"

#include <glog/logging.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/wait.h>

#include <array>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/bench/echo.grpc.pb.h"
#include "tests/bench/noop_caller.h"
#include "tests/bench/window.h"
#include "tests/fixtures/assentd.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/process.h"
#include "tests/fixtures/temp_dir.h"
#include "tests/profile/sync_counter.h"

namespace assent {
namespace {

constexpr absl::Duration kFlushPatience = absl::Seconds(30);

// Dies of an error.
template <typename Call>
void MustCall(const Call& call) {
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  const grpc::Status status = call(&context);
  CHECK(status.ok()) << status.error_message();
}

class EchoCaller {
 public:
  EchoCaller(const std::string& address, const NoopCaller::Sizes& sizes)
      : stub_(bench::Echo::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))), sizes_(sizes) {}

  void Transact() {
    Call(sizes_.finalize);
    if (++unreported_ % NoopCaller::kReported == 0) Call(sizes_.completed);
  }

 private:
  void Call(const std::array<size_t, 2>& sizes) {
    bench::EchoRequest request;
    request.set_payload(std::string(sizes[0], 'x'));
    request.set_response_size(static_cast<int>(sizes[1]));
    bench::EchoResponse response;
    MustCall([&](grpc::ClientContext* context) { return stub_->Call(context, request, &response); });
  }

  std::unique_ptr<bench::Echo::Stub> stub_;
  const NoopCaller::Sizes sizes_;
  int64_t unreported_ = 0;
};

std::unique_ptr<Assentd> StartAlone(const std::string& store, std::vector<std::string> environment) {
  Assentd::Options options;
  options.store = store;
  options.environment = std::move(environment);
  // No branch is ever at a database, so none is to be looked for.
  options.extra = {"--recovery-patience=1h", "--sweep-interval=1h", "--default-timeout=1h", "--log-level=error"};
  auto instance = Assentd::Start(std::move(options));
  CHECK(instance.ok()) << instance.status();
  const absl::Status registered = CoordinatorApi((*instance)->address()).RegisterNowhere(NoopCaller::kNowhere);
  CHECK(registered.ok()) << registered;
  return *std::move(instance);
}

// A process that only echoes.
class EchoServer {
 public:
  explicit EchoServer(const std::string& folder) {
    const absl::StatusOr<std::string> program = FindBuiltProgram("tests/bench/echo_server");
    CHECK(program.ok()) << program.status();
    const std::string port_file = folder + "/echo.port";
    const auto pid = Spawn({*program, port_file}, {});
    CHECK(pid.ok()) << pid.status();
    pid_ = *pid;
    int port = 0;
    for (int i = 0; i < 1000 && !(std::ifstream(port_file) >> port); ++i) absl::SleepFor(absl::Milliseconds(10));
    CHECK_NE(port, 0) << "the echo server did not start";
    address_ = absl::StrCat("127.0.0.1:", port);
  }
  ~EchoServer() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  const std::string& address() const { return address_; }

 private:
  pid_t pid_ = 0;
  std::string address_;
};

template <typename MakeCaller>
double PerSecond(int callers, absl::Duration length, const MakeCaller& make, const std::function<void()>& begun) {
  const Samples samples = RunWorkers(
      callers, length,
      [&](int) -> std::function<void()> { return [caller = std::shared_ptr(make())] { caller->Transact(); }; }, begun);
  return static_cast<double>(samples.milliseconds.size()) / samples.seconds;
}

}  // namespace

AloneResult MeasureAlone(int callers, int rounds, absl::Duration length) {
  const absl::StatusOr<TempDir> folder = TempDir::Create("bench_alone");
  CHECK(folder.ok()) << folder.status();
  const SyncCounter syncs(folder->path() + "/syncs");
  const std::unique_ptr<Assentd> assentd = StartAlone(folder->path() + "/bench.db", syncs.Environment());
  const EchoServer echo(folder->path());
  ClientState client(assentd->address(), {});
  const NoopCaller::Sizes sizes = NoopCaller::Measure(&client);
  std::vector<double> noop, echoed, forced;
  for (int round = 0; round < rounds; ++round) {
    int64_t before = 0;
    const auto make = [&] { return std::make_unique<NoopCaller>(&client); };
    noop.push_back(PerSecond(callers, length, make, [&] { before = syncs.Count(); }));
    CHECK(client.reporter.Flush(absl::Now() + kFlushPatience));
    forced.push_back(static_cast<double>(syncs.Count() - before) / (noop.back() * absl::ToDoubleSeconds(length)));
    const auto make_echo = [&] { return std::make_unique<EchoCaller>(echo.address(), sizes); };
    echoed.push_back(PerSecond(callers, length, make_echo, [] {}));
  }
  return {Median(noop), Median(forced), Median(echoed)};
}

double BytesPerOpenTransaction(int transactions) {
  const absl::StatusOr<TempDir> folder = TempDir::Create("bench_open");
  CHECK(folder.ok()) << folder.status();
  const std::unique_ptr<Assentd> assentd = StartAlone(folder->path() + "/bench.db", {});
  CoordinatorApi api(assentd->address());
  const auto open = [&](int count) {
    for (int i = 0; i < count; ++i) {
      v1::CreateGlobalRequest create;
      for (int branch = 0; branch < 2; ++branch) create.add_branches()->set_resource(NoopCaller::kNowhere);
      v1::CreateGlobalResponse created;
      MustCall(
          [&](grpc::ClientContext* context) { return api.coordinator()->CreateGlobal(context, create, &created); });
    }
  };
  open(transactions / 10);  // What is there once, is there.
  const int64_t before = ResidentBytes(assentd->pid());
  open(transactions);
  return static_cast<double>(ResidentBytes(assentd->pid()) - before) / transactions;
}

}  // namespace assent
