// Metrics: what Prometheus reads of this coordinator, over HTTP at /metrics. docs/metrics.md lists the names, which are
// part of the public API; a test compares.
//
// Nothing is counted on the way of a transaction. What may have to wait for the store is looked at every few seconds by
// a thread of its own, so that a scrape answers at once, also when the store does not: then that is what it says.
#ifndef ASSENT_COORDINATOR_METRICS_H_
#define ASSENT_COORDINATOR_METRICS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/engine.h"
#include "coordinator/recovery.h"
#include "coordinator/retention.h"
#include "store/store.h"

namespace assent {

// What is looked at; all of it must outlive the metrics.
struct MetricsSources {
  Store* store = nullptr;
  Engine* engine = nullptr;
  Recovery* recovery = nullptr;
  const Retention* retention = nullptr;
};

// Thread-safe.
class Metrics {
 public:
  // Serves at once, at host:port (port 0 takes a free one). INVALID_FIELD: the address cannot be used.
  static absl::StatusOr<std::unique_ptr<Metrics>> Start(const std::string& address, const MetricsSources& sources);
  // Waits for the scrapes that are under way.
  ~Metrics();

  int port() const;

 private:
  class Impl;
  explicit Metrics(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace assent

#endif  // ASSENT_COORDINATOR_METRICS_H_
