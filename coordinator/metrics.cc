#include "coordinator/metrics.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

#include <chrono>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/mutex.h"
#include "base/version.h"

namespace assent {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

constexpr int kHttpThreads = 2;
constexpr absl::Duration kLookInterval = absl::Seconds(3);
// A look that took longer, or has not come back, means that the store does not answer.
constexpr absl::Duration kLookPatience = absl::Seconds(8);

using Mono = std::chrono::steady_clock;

// What was seen at the last look.
struct Seen {
  Mono::time_point at;
  absl::StatusOr<StoreSizes> sizes = absl::UnknownError("not looked yet");
  std::vector<ResourceSurvey> resources;
};

// Collects families of one scrape.
class Page {
 public:
  void Gauge(const char* name, const char* help, double value, Labels labels = {}) {
    ClientMetric metric;
    metric.gauge.value = value;
    Add(name, help, MetricType::Gauge, std::move(metric), std::move(labels));
  }
  void Counter(const char* name, const char* help, double value) {
    ClientMetric metric;
    metric.counter.value = value;
    Add(name, help, MetricType::Counter, std::move(metric), {});
  }
  std::vector<MetricFamily> Take() { return std::move(families_); }

 private:
  // Families with several label values are added to one after the other, or they would appear twice.
  void Add(const char* name, const char* help, MetricType type, ClientMetric metric, Labels labels) {
    metric.label = std::move(labels);
    for (MetricFamily& family : families_) {
      if (family.name == name) {
        family.metric.push_back(std::move(metric));
        return;
      }
    }
    families_.push_back({name, help, type, {std::move(metric)}});
  }
  std::vector<MetricFamily> families_;
};

void AddStore(const Seen& seen, const StoreStats& stats, Page* page) {
  const bool up = seen.sizes.ok() && Mono::now() - seen.at < absl::ToChronoNanoseconds(kLookPatience);
  page->Gauge("assent_store_up", "1 if the store answers.", up ? 1 : 0);
  if (up) {
    page->Gauge("assent_store_open_records", "Unfinished global transactions in the store.", seen.sizes->open);
    page->Gauge("assent_store_records", "Global transactions in the store; an estimate.", seen.sizes->records);
    page->Gauge("assent_store_bytes", "Size of the store with its indexes; an estimate.", seen.sizes->bytes);
  }
  page->Counter("assent_store_transitions_total", "Changes of records that this coordinator has stored.",
                stats.transitions);
  page->Counter("assent_store_groups_total", "Transactions of the store that they shared.", stats.groups);
  page->Counter("assent_store_forced_groups_total", "Of those, the ones forced to disk.", stats.forced_groups);
}

void AddResources(const Seen& seen, Page* page) {
  const absl::Time now = absl::Now();
  for (const ResourceSurvey& survey : seen.resources) {
    const std::string& resource = survey.status.resource();
    const Labels of_resource = {{"resource", resource}};
    for (int state = v1::ResourceStatus::STATE_UNKNOWN; state <= v1::ResourceStatus::State_MAX; ++state) {
      // After STATE_.
      const std::string name = absl::AsciiStrToLower(
          v1::ResourceStatus::State_Name(static_cast<v1::ResourceStatus::State>(state)).substr(6));
      page->Gauge("assent_resource_state", "1 for the state in which the resource is.",
                  survey.status.state() == state ? 1 : 0, {{"resource", resource}, {"state", name}});
    }
    page->Gauge("assent_in_doubt_branches", "Branches that are decided and not proven finished.", survey.in_doubt,
                of_resource);
    page->Gauge("assent_in_doubt_alarms", "Of those, the ones somebody must look at.", survey.alarms, of_resource);
    page->Gauge("assent_in_doubt_oldest_seconds", "Age of the oldest of them; 0 if there is none.",
                survey.in_doubt == 0 ? 0 : absl::ToDoubleSeconds(now - survey.oldest), of_resource);
    page->Gauge("assent_witnesses_waiting", "Witness rows of finished transactions that wait to be deleted.",
                survey.witnesses_waiting, of_resource);
  }
}

class Collector : public prometheus::Collectable {
 public:
  explicit Collector(const MetricsSources& sources) : sources_(sources), looking_([this] { Look(); }) {}
  ~Collector() override {
    {
      MutexLock lock(&mutex_);
      stopping_ = true;
      changed_.NotifyAll();
    }
    looking_.join();
  }

  std::vector<MetricFamily> Collect() const override {
    Seen seen;
    {
      MutexLock lock(&mutex_);
      seen = seen_;
    }
    Page page;
    page.Gauge("assent_build_info", "1; the version is the label.", 1, {{"version", std::string(kVersion)}});
    page.Gauge("assent_open_globals", "Unfinished global transactions in this coordinator's memory.",
               sources_.engine->OpenGlobals());
    AddStore(seen, sources_.store->Stats(), &page);
    page.Counter("assent_retention_deleted_total", "Finished transactions that this coordinator has deleted.",
                 sources_.retention->deleted_total());
    AddResources(seen, &page);
    return page.Take();
  }

 private:
  void Look() {
    for (;;) {
      Seen now;
      now.sizes = sources_.store->Sizes();
      now.resources = sources_.recovery->Survey();
      now.at = Mono::now();
      MutexLock lock(&mutex_);
      seen_ = std::move(now);
      const auto wake = Mono::now() + absl::ToChronoNanoseconds(kLookInterval);
      while (!stopping_ && Mono::now() < wake) changed_.WaitUntil(&mutex_, wake);
      if (stopping_) return;
    }
  }

  const MetricsSources sources_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Seen seen_ ABSL_GUARDED_BY(mutex_);
  std::thread looking_;
};

}  // namespace

class Metrics::Impl {
 public:
  // Throws what CivetServer throws.
  Impl(const std::string& address, const MetricsSources& sources)
      : collector_(std::make_shared<Collector>(sources)), exposer_(address, kHttpThreads) {
    exposer_.RegisterCollectable(collector_);
  }
  int port() const { return exposer_.GetListeningPorts().front(); }

 private:
  std::shared_ptr<Collector> collector_;
  prometheus::Exposer exposer_;
};

absl::StatusOr<std::unique_ptr<Metrics>> Metrics::Start(const std::string& address, const MetricsSources& sources) {
  try {
    return std::unique_ptr<Metrics>(new Metrics(std::make_unique<Impl>(address, sources)));
  } catch (const std::exception& error) {  // The library's way to say that it cannot listen.
    return MakeError(Reason::INVALID_FIELD,
                     absl::StrCat("cannot serve metrics on ", address,
                                  ": the address is in use or not one of this machine's (", error.what(), ")"),
                     {{"field", "metrics-listen"}});
  }
}

Metrics::Metrics(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Metrics::~Metrics() = default;

int Metrics::port() const { return impl_->port(); }

}  // namespace assent
