#include "coordinator/server.h"

#include <glog/logging.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "base/timer.h"
#include "base/version.h"
#include "coordinator/coordinator_service.h"
#include "coordinator/metrics.h"
#include "coordinator/presence.h"
#include "coordinator/recovery.h"
#include "coordinator/resource_password.h"
#include "coordinator/resource_registry.h"
#include "coordinator/resource_service.h"
#include "coordinator/retention.h"
#include "coordinator/unary_call.h"
#include "grpc/health/v1/health.pb.h"
#include "resource_manager/database_engine.h"

namespace assent {
namespace {

// What may block: reads of the store…
constexpr int kBlockingThreads = 4;
constexpr size_t kBlockingQueue = 10000;
// …and, apart from them, calls that may wait for a database: one that accepts and never speaks holds up only these.
constexpr int kResourceThreads = 6;
constexpr size_t kResourceQueue = 100;
// Of the recovery, to each resource.
constexpr int kRecoveryConnections = 8;
constexpr int kMaxMessageBytes = 4 * 1024 * 1024;
// Clocks differ.
constexpr absl::Duration kMaxAhead = absl::Minutes(1);
constexpr absl::Duration kDrainPoll = absl::Milliseconds(2);
// For what is on the wire when the last call has been answered: NOT_SERVING to whoever watches, GOAWAY.
constexpr absl::Duration kFarewell = absl::Milliseconds(200);

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (file && !text.str().empty()) return text.str();
  return MakeError(Reason::INVALID_FIELD, absl::StrCat("cannot read ", path, " (or it is empty)"), {{"field", path}});
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> Credentials(const ServerTlsOptions& tls) {
  if (tls.cert_file.empty()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions::PemKeyCertPair pair;
  grpc::SslServerCredentialsOptions options;
  for (const auto& part :
       {std::make_pair(&tls.cert_file, &pair.cert_chain), std::make_pair(&tls.key_file, &pair.private_key),
        std::make_pair(&tls.client_ca_file, &options.pem_root_certs)}) {
    if (part.first->empty()) continue;
    absl::StatusOr<std::string> text = ReadFile(*part.first);
    if (!text.ok()) return text.status();
    *part.second = *std::move(text);
  }
  options.pem_key_cert_pairs.push_back(std::move(pair));
  if (!tls.client_ca_file.empty()) {
    options.client_certificate_request = GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  }
  return grpc::SslServerCredentials(options);
}

// host:port with another port.
std::string WithPort(const std::string& listen, int port) {
  if (absl::StartsWith(listen, "unix:")) return listen;
  return absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
}

}  // namespace

absl::Status CheckTls(const ServerTlsOptions& tls) { return Credentials(tls).status(); }

class CoordinatorServer::Impl {
 public:
  Impl(std::unique_ptr<Store> store, const ServerOptions& options)
      : store_(std::move(store)),
        timer_(Clock::Real()),
        executor_(kBlockingThreads, kBlockingQueue),
        resource_executor_(kResourceThreads, kResourceQueue),
        registry_(store_.get(), Clock::Real()),
        engine_(store_.get(), Clock::Real(), &timer_, &executor_, EngineOptionsOf(options)),
        recovery_(RecoveryOptionsOf(options, *store_, &registry_), &engine_, &registry_, Clock::Real()),
        coordinator_(&engine_, store_.get(), &registry_, &recovery_, &executor_, &resource_executor_, Clock::Real(),
                     options.limits),
        resources_(&registry_, &engine_, &recovery_, &resource_executor_),
        presence_(store_.get(), &engine_, &registry_, &recovery_, [this](bool good) { SetHealth(&present_, good); }),
        retention_(RetentionOptionsOf(options), store_.get(), Clock::Real(),
                   [this] { return presence_.HoldsRetention(); }) {}

  absl::Status Start(const ServerOptions& options) {
    if (absl::Status status = registry_.Load(); !status.ok()) return status;
    if (absl::Status status = engine_.Start(); !status.ok()) return status;
    const absl::Duration ahead = store_->Horizon() - absl::Now();
    LOG_IF(WARNING, ahead > kMaxAhead)
        << "a clock was ahead when it deleted transactions, or this one is behind: gtrids are handed out as if it were "
        << ahead << " later, until it is";
    absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> credentials = Credentials(options.tls);
    if (!credentials.ok()) return credentials.status();
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    // gRPC serves health without its descriptor; naming it here links it in, so that reflection can describe the
    // service.
    grpc::health::v1::HealthCheckRequest::descriptor();
    grpc::ServerBuilder builder;
    // Without SO_REUSEPORT two coordinators on one port are an error of the second, not a lottery for the callers.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    // Participants look every 15 s whether their connection still leads here (gRPC's own limit is five minutes).
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000);
    builder.AddListeningPort(options.listen, *credentials, &port_);
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.RegisterService(&coordinator_);
    builder.RegisterService(&resources_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return MakeError(
          Reason::INVALID_FIELD,
          absl::StrCat("cannot listen on ", options.listen, ": the address is in use or not one of this machine's"),
          {{"field", "listen"}});
    }
    {
      MutexLock lock(&health_mutex_);
      health_ = server_->GetHealthCheckService();
      ShowHealth();
    }
    InstanceInfo self;
    self.address = options.advertise.empty() ? WithPort(options.listen, port_) : options.advertise;
    self.version = std::string(kVersion);
    self.lease = options.instance_lease;
    if (absl::Status status = presence_.Start(self); !status.ok()) return status;
    retention_.Start();
    // Whoever asks for the health waits for the first look at every resource; calls are answered before that.
    recovery_.Start([this] { SetHealth(&swept_, true); });
    if (options.metrics_listen.empty()) return absl::OkStatus();
    absl::StatusOr<std::unique_ptr<Metrics>> metrics =
        Metrics::Start(options.metrics_listen, {store_.get(), &engine_, &recovery_, &retention_});
    if (metrics.ok()) metrics_ = *std::move(metrics);
    return metrics.status();
  }

  void Shutdown(absl::Duration grace) {
    if (server_ != nullptr) {
      {
        MutexLock lock(&health_mutex_);
        health_->Shutdown();
        health_ = nullptr;
      }
      engine_.Drain();
      // gRPC would wait for connections, and an idle client may take seconds to notice; one that watches the health
      // never goes. What counts is that every call has its answer.
      const absl::Time give_up = absl::Now() + grace;
      while (CallsInFlight::Count() > 0 && absl::Now() < give_up) absl::SleepFor(kDrainPoll);
      server_->Shutdown(absl::ToChronoTime(std::min(give_up, absl::Now() + kFarewell)));
      server_->Wait();
      server_.reset();
    }
    metrics_.reset();
    recovery_.Stop();
    // The engine takes no more calls. First what calls into the store ends, then the store ends what is on its way.
    timer_.Stop();
    resource_executor_.Stop();
    executor_.Stop();
    retention_.Stop();
    presence_.Stop();
    store_.reset();
  }

  int port() const { return port_; }
  int metrics_port() const { return metrics_ == nullptr ? 0 : metrics_->port(); }
  Store* store() { return store_.get(); }

 private:
  EngineOptions EngineOptionsOf(const ServerOptions& options) {
    EngineOptions engine;
    engine.max_open_globals = options.max_open_globals;
    engine.shared = store_->IsShared();
    engine.on_store_health = [this](bool healthy) { SetHealth(&store_healthy_, healthy); };
    engine.on_finished = [this](const GlobalPtr& global) { recovery_.Finished(*global); };
    return engine;
  }

  static RecoveryOptions RecoveryOptionsOf(const ServerOptions& options, const Store& store,
                                           ResourceRegistry* registry) {
    RecoveryOptions recovery;
    recovery.claimant = {options.limits.cluster, store.Id(), [registry](const std::string& server, int64_t epoch) {
                           return registry->KnowsEpoch(server, epoch);
                         }};
    recovery.sweep_interval = options.sweep_interval;
    recovery.patience = options.recovery_patience;
    recovery.alarm_age = options.alarm_age;
    recovery.connect = options.connect;
    if (recovery.connect) return recovery;
    recovery.connect = [](const v1::Resource& resource) -> absl::StatusOr<std::unique_ptr<BranchRecovery>> {
      const absl::StatusOr<std::string> password = PasswordOf(resource);
      if (!password.ok()) return password.status();
      const absl::StatusOr<ConnectOptions> connect = ConnectOptionsOf(resource, *password);
      if (!connect.ok()) return connect.status();
      return FindDatabaseEngine(resource.engine())->recover(*connect, kRecoveryConnections);
    };
    return recovery;
  }

  static RetentionOptions RetentionOptionsOf(const ServerOptions& options) {
    RetentionOptions retention;
    retention.keep = options.retention;
    return retention;
  }

  void SetHealth(bool* what, bool good) {
    MutexLock lock(&health_mutex_);
    *what = good;
    ShowHealth();
  }

  void ShowHealth() ABSL_EXCLUSIVE_LOCKS_REQUIRED(health_mutex_) {
    if (health_ == nullptr) return;
    const bool serving = swept_ && store_healthy_ && present_;
    health_->SetServingStatus("", serving);
    health_->SetServingStatus(v1::CoordinatorService::service_full_name(), serving);
    health_->SetServingStatus(v1::ResourceService::service_full_name(), serving);
  }

  Mutex health_mutex_;
  // Null before the server listens and after it has begun to stop.
  grpc::HealthCheckServiceInterface* health_ ABSL_GUARDED_BY(health_mutex_) = nullptr;
  bool swept_ ABSL_GUARDED_BY(health_mutex_) = false;
  bool store_healthy_ ABSL_GUARDED_BY(health_mutex_) = true;
  bool present_ ABSL_GUARDED_BY(health_mutex_) = true;
  std::unique_ptr<Store> store_;
  Timer timer_;
  Executor executor_;
  Executor resource_executor_;
  ResourceRegistry registry_;
  Engine engine_;
  Recovery recovery_;
  CoordinatorServiceImpl coordinator_;
  ResourceServiceImpl resources_;
  Presence presence_;
  Retention retention_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

absl::StatusOr<std::unique_ptr<CoordinatorServer>> CoordinatorServer::Start(std::unique_ptr<Store> store,
                                                                            const ServerOptions& options) {
  auto impl = std::make_unique<Impl>(std::move(store), options);
  if (absl::Status status = impl->Start(options); !status.ok()) {
    impl->Shutdown(absl::ZeroDuration());
    return status;
  }
  return std::unique_ptr<CoordinatorServer>(new CoordinatorServer(std::move(impl)));
}

CoordinatorServer::CoordinatorServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

CoordinatorServer::~CoordinatorServer() {
  if (impl_ != nullptr) Shutdown(absl::ZeroDuration());
}

int CoordinatorServer::port() const { return impl_->port(); }

int CoordinatorServer::metrics_port() const { return impl_->metrics_port(); }

Store* CoordinatorServer::store() { return impl_->store(); }

void CoordinatorServer::Shutdown(absl::Duration grace) {
  if (impl_ == nullptr) return;
  impl_->Shutdown(grace);
  impl_.reset();
}

}  // namespace assent
