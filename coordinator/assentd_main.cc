// assentd: the coordinator's daemon. Reads its settings, opens the store, serves until SIGTERM, drains, exits.
//
// Exit codes: 0 drained; 1 unexpected; 2 settings; 3 the store cannot be used; 4 the address or certificates cannot be
// used; 130 a second signal cut the drain short.
#include <arpa/inet.h>
#include <glog/logging.h>
#include <grpc/support/log.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/errors.h"
#include "base/json_log.h"
#include "base/settings.h"
#include "base/version.h"
#include "base/xid.h"
#include "coordinator/server.h"
#include "store/open_store.h"

namespace assent {
namespace {

constexpr int kExitSettings = 2;
constexpr int kExitStore = 3;
constexpr int kExitListen = 4;
constexpr int kExitSecondSignal = 130;
// Longer than callers are patient (ClientOptions::decision_patience): see RetentionOptions.
constexpr absl::Duration kMinRetention = absl::Hours(1);
// A limit of open files below this is worth a warning.
constexpr rlim_t kFewFiles = 65536;

struct DaemonSettings {
  StoreSettings store;
  absl::Duration drain_grace = absl::Seconds(10);
  bool insecure = false;
  std::string log_level = "info";
  std::string log_format = "text";
  std::string port_file;
  ServerOptions server;
};

void Declare(DaemonSettings* d, Settings* settings) {
  ServerOptions& server = d->server;
  settings->Add("listen", &server.listen, "the address to serve gRPC on, host:port; port 0 takes a free one");
  settings->Add("store", &d->store.store,
                "the store, created if missing: the path of an SQLite file, or, for several coordinators, "
                "mariadb://USER@HOST[:PORT]/DATABASE (mariadb://USER@/DATABASE?socket=PATH)");
  settings->Add("store-password-file", &d->store.password_file, "a file that holds the password of the store's user");
  settings->AddChoice("store-tls", &d->store.tls_mode, {"off", "on", "insecure"},
                      "TLS to the store; insecure: encrypted, but whoever answers is believed");
  settings->Add("store-tls-ca", &d->store.tls.ca,
                "PEM file of the CA that signs the store's certificate; empty: the machine's own list");
  settings->Add("store-tls-cert", &d->store.tls.cert, "PEM file of the certificate to show to the store");
  settings->Add("store-tls-key", &d->store.tls.key, "PEM file of its private key");
  settings->Add("store-allow-unsafe", &d->store.allow_unsafe,
                "use a store server whose settings can lose what it has acknowledged, and only warn of it");
  settings->Add("advertise", &server.advertise,
                "host:port at which clients and other instances reach this one; empty: listen, with its port");
  settings->Add("instance-lease", &server.instance_lease, absl::Milliseconds(200), absl::Minutes(5),
                "how long the other instances believe in this one without a word from it");
  settings->Add("cluster", &d->store.cluster,
                "this cluster's name, the prefix of generated ids: 1 to 32 of [A-Za-z0-9._:], never changed later");
  settings->Add("default-timeout", &server.limits.default_timeout, absl::Milliseconds(1), absl::Hours(24 * 365),
                "how long a transaction may stay undecided if its creator does not say");
  settings->Add("max-timeout", &server.limits.max_timeout, absl::Milliseconds(1), absl::Hours(24 * 365),
                "the longest timeout a creator may ask for");
  settings->Add("max-open-globals", &server.max_open_globals, 1, 100000000,
                "unfinished transactions; more are refused");
  settings->Add("sweep-interval", &server.sweep_interval, absl::Milliseconds(100), absl::Hours(1),
                "how often recovery looks at every resource without being asked");
  settings->Add("recovery-patience", &server.recovery_patience, absl::ZeroDuration(), absl::Hours(1),
                "how long after the decision a branch is left to its participant before recovery looks at it");
  settings->Add("alarm-age", &server.alarm_age, absl::Seconds(1), absl::Hours(24 * 365),
                "how long a branch may be in doubt before that is an alarm");
  settings->Add("retention", &server.retention, absl::ZeroDuration(), absl::Hours(24 * 365 * 100),
                "how long finished transactions are kept, at least 1h; 0s: for ever");
  settings->Add("drain-grace", &d->drain_grace, absl::ZeroDuration(), absl::Hours(1),
                "how long running calls may take to end after SIGTERM");
  settings->Add("metrics-listen", &server.metrics_listen,
                "host:port for Prometheus: plain HTTP, without secrets, at /metrics; empty: none");
  settings->Add("tls-cert", &server.tls.cert_file,
                "PEM file of the server's certificate chain; with tls-key turns TLS on");
  settings->Add("tls-key", &server.tls.key_file, "PEM file of its private key");
  settings->Add("tls-client-ca", &server.tls.client_ca_file, "PEM file of the CA whose certificates clients must show");
  settings->Add("insecure", &d->insecure, "allow plaintext on an address that is not loopback");
  settings->AddChoice("log-level", &d->log_level, {"debug", "info", "warning", "error"}, "what to log to stderr");
  settings->AddChoice("log-format", &d->log_format, {"text", "json"}, "how to log it");
  settings->Add("port-file", &d->port_file, "a file to write the port into once calls are accepted");
}

// host:port with a port of 0 to 65535, or unix:PATH. gRPC itself would take 99999 for 34463, and no port for 443.
bool SplitListen(absl::string_view listen, absl::string_view* host) {
  if (absl::ConsumePrefix(&listen, "unix:")) {
    *host = "unix:";
    return !listen.empty();
  }
  const size_t colon = listen.rfind(':');
  if (colon == absl::string_view::npos || colon == 0) return false;
  *host = listen.substr(0, colon);
  const absl::string_view port = listen.substr(colon + 1);
  const bool bracketed = absl::StartsWith(*host, "[") && absl::EndsWith(*host, "]");
  int number = -1;
  return (bracketed || host->find(':') == absl::string_view::npos) && !port.empty() &&
         std::all_of(port.begin(), port.end(), absl::ascii_isdigit) && absl::SimpleAtoi(port, &number) &&
         number <= 65535;
}

// A name that merely begins like one (127.example.com) is none.
bool IsLoopback(absl::string_view host) {
  in_addr address{};
  if (inet_pton(AF_INET, std::string(host).c_str(), &address) == 1) return ntohl(address.s_addr) >> 24 == 127;
  return host == "localhost" || host == "[::1]" || host == "unix:";
}

absl::Status Invalid(absl::string_view field, absl::string_view text) {
  return MakeError(Reason::INVALID_FIELD, text, {{"field", std::string(field)}});
}

// What depends on more than one setting.
absl::Status Validate(DaemonSettings* d) {
  if (!IsValidCluster(d->store.cluster)) {
    return Invalid(
        "cluster",
        absl::StrCat("cluster must be 1 to 32 bytes of [A-Za-z0-9._:] (no '-', which ends the prefix), not '",
                     d->store.cluster, "'"));
  }
  if (absl::Status status = ParseStore(d->store).status(); !status.ok()) return status;
  if (d->store.tls.cert.empty() != d->store.tls.key.empty()) {
    return Invalid("store-tls-cert", "store-tls-cert and store-tls-key go together");
  }
  if (!d->server.advertise.empty() &&
      (d->server.advertise.size() > 255 || !absl::StrContains(d->server.advertise, ':'))) {
    return Invalid("advertise", absl::StrCat("advertise must be host:port, not '", d->server.advertise, "'"));
  }
  absl::string_view host;
  if (!SplitListen(d->server.listen, &host)) {
    return Invalid("listen", absl::StrCat("listen must be host:port with a port of 0 to 65535, or unix:PATH, not '",
                                          d->server.listen, "'"));
  }
  absl::string_view metrics_host;
  if (!d->server.metrics_listen.empty() &&
      (!SplitListen(d->server.metrics_listen, &metrics_host) || metrics_host == "unix:")) {
    return Invalid("metrics-listen", absl::StrCat("metrics-listen must be host:port with a port of 0 to 65535, not '",
                                                  d->server.metrics_listen, "'"));
  }
  if (ParseStore(d->store)->mariadb && d->server.advertise.empty() &&
      (host == "0.0.0.0" || host == "[::]" || host == "unix:")) {
    return Invalid("advertise", absl::StrCat("advertise must say where this coordinator is reached, which ",
                                             d->server.listen, " does not, as others may share its store"));
  }
  const ServerTlsOptions& tls = d->server.tls;
  if (tls.cert_file.empty() != tls.key_file.empty()) return Invalid("tls-cert", "tls-cert and tls-key go together");
  if (tls.cert_file.empty() && !tls.client_ca_file.empty())
    return Invalid("tls-client-ca", "tls-client-ca needs tls-cert and tls-key");
  if (tls.cert_file.empty() && !d->insecure && !IsLoopback(host)) {
    return Invalid(
        "listen",
        absl::StrCat("listen ", d->server.listen,
                     " is not a loopback address: give tls-cert and tls-key, or --insecure to serve plaintext there"));
  }
  if (d->server.limits.default_timeout > d->server.limits.max_timeout) {
    return Invalid("default-timeout", "default-timeout must not be longer than max-timeout");
  }
  if (d->server.retention > absl::ZeroDuration() && d->server.retention < kMinRetention) {
    return Invalid("retention", absl::StrCat("retention must be at least ", absl::FormatDuration(kMinRetention),
                                             ", or 0s to keep everything: callers that lost their answer ask again"));
  }
  d->server.limits.cluster = d->store.cluster;
  return absl::OkStatus();
}

// gRPC's own words join our log, whatever its format.
void LogOfGrpc(gpr_log_func_args* args) {
  const google::LogSeverity severity =
      args->severity == GPR_LOG_SEVERITY_ERROR ? google::GLOG_WARNING : google::GLOG_INFO;
  google::LogMessage(args->file, args->line, severity).stream() << "grpc: " << args->message;
}

void StartLogging(const DaemonSettings& d) {
  FLAGS_logtostderr = true;
  FLAGS_v = d.log_level == "debug" ? 1 : 0;
  FLAGS_minloglevel = d.log_level == "error"     ? google::GLOG_ERROR
                      : d.log_level == "warning" ? google::GLOG_WARNING
                                                 : google::GLOG_INFO;
  google::InitGoogleLogging("assentd");
  if (d.log_format == "json") StartJsonLog();
  gpr_set_log_function(&LogOfGrpc);
}

// Each connection of a client is a file, and gRPC stops listening for good once there are too many.
void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    PLOG(WARNING) << "cannot read the limit of open files";
    return;
  }
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    PLOG(WARNING) << "cannot raise the limit of open files to " << limit.rlim_max;
    limit.rlim_cur = before;
  }
  if (limit.rlim_cur < kFewFiles) {
    LOG(WARNING) << "at most " << limit.rlim_cur
                 << " open files: more clients than that cannot connect; raise the hard limit (LimitNOFILE)";
  }
}

// Tells systemd, if it asked (sd_notify's protocol: one datagram).
void Notify(absl::string_view state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || path[0] == '\0') return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const absl::string_view name = path;
  if (name.size() >= sizeof(address.sun_path)) return;
  name.copy(address.sun_path, name.size());
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address),
         static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size()));
  close(fd);
}

// Written whole or not at all: whoever waits for the file never reads half a number.
bool WritePortFile(const std::string& path, int port) {
  const std::string fresh = path + ".new";
  FILE* file = std::fopen(fresh.c_str(), "w");
  if (file == nullptr) return false;
  const bool written = std::fprintf(file, "%d\n", port) > 0;
  return std::fclose(file) == 0 && written && std::rename(fresh.c_str(), path.c_str()) == 0;
}

int Fail(int code, const absl::Status& status) {
  std::cerr << "assentd: " << status.message() << "\n";
  return code;
}

int Main(int argc, char** argv) {
  // Blocked before any thread exists, so that all of them leave the signals to sigwait.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  DaemonSettings daemon;
  Settings settings("assentd", "the coordinator of global transactions", "ASSENTD");
  Declare(&daemon, &settings);
  const absl::StatusOr<Settings::Next> next = settings.Resolve(argc, argv, environ, std::cout);
  if (!next.ok()) return Fail(kExitSettings, next.status());
  if (*next == Settings::Next::kExit) return 0;
  if (absl::Status status = Validate(&daemon); !status.ok()) return Fail(kExitSettings, status);
  if (*next == Settings::Next::kCheckConfig) {
    if (absl::Status status = CheckTls(daemon.server.tls); !status.ok()) return Fail(kExitSettings, status);
    std::cout << "ok\n";
    return 0;
  }
  StartLogging(daemon);
  RaiseFileLimit();

  absl::StatusOr<std::unique_ptr<Store>> store = OpenStore(daemon.store);
  if (!store.ok()) return Fail(kExitStore, store.status());
  absl::StatusOr<std::unique_ptr<CoordinatorServer>> server =
      CoordinatorServer::Start(*std::move(store), daemon.server);
  if (!server.ok())
    return Fail(ReasonOf(server.status()) == Reason::INVALID_FIELD ? kExitListen : kExitStore, server.status());
  LOG(INFO) << "assentd " << kVersion << " serving cluster=" << daemon.store.cluster
            << " listen=" << daemon.server.listen << " port=" << (*server)->port() << " store=" << daemon.store.store
            << (daemon.server.metrics_listen.empty() ? "" : absl::StrCat(" metrics_port=", (*server)->metrics_port()));
  if (!daemon.port_file.empty() && !WritePortFile(daemon.port_file, (*server)->port())) {
    return Fail(kExitSettings, Invalid("port-file", absl::StrCat("cannot write port-file ", daemon.port_file)));
  }
  Notify("READY=1");

  int signal_number = 0;
  sigwait(&signals, &signal_number);
  LOG(INFO) << "signal " << signal_number << ": draining for up to " << daemon.drain_grace;
  Notify("STOPPING=1");
  std::thread([&signals] {
    int second = 0;
    sigwait(&signals, &second);
    LOG(WARNING) << "second signal: leaving at once";
    _exit(kExitSecondSignal);
  }).detach();
  (*server)->Shutdown(daemon.drain_grace);
  LOG(INFO) << "drained";
  return 0;
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) { return assent::Main(argc, argv); }
