#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/mutex.h"
#include "base/timestamp.h"
#include "store/transfer.h"
#include "store/transfer_store.h"

namespace assent {
namespace {

// What may be on its way into the store.
constexpr int kMaxInFlight = 8192;
constexpr size_t kMaxInFlightBytes = size_t{16} << 20;

absl::Status Differs(const std::string& path, int64_t line, absl::string_view what) {
  return MakeError(Reason::STORE_DIFFERS,
                   absl::StrCat(path, ", line ", line, ": ", what,
                                ": the store has something else than the file; remove the half imported store and "
                                "import again"),
                   {{"path", path}, {"line", absl::StrCat(line)}});
}

// Transactions on their way into the store, a bounded number of them. Its destructor waits for all. Thread-safe.
class Inflow {
 public:
  Inflow(Store* store, std::string path) : store_(store), path_(std::move(path)) {}
  ~Inflow() { Wait().IgnoreError(); }

  // Submits once there is room. The first error of any of them.
  absl::Status Add(GlobalPtr global, int64_t line) {
    const size_t bytes = global->ByteSizeLong();
    {
      MutexLock lock(&mu_);
      while (error_.ok() && count_ > 0 && (count_ >= kMaxInFlight || bytes_ + bytes > kMaxInFlightBytes)) {
        less_.Wait(&mu_);
      }
      if (!error_.ok()) return error_;
      ++count_;
      bytes_ += bytes;
    }
    Transition transition;
    transition.next = std::move(global);
    const GlobalPtr next = transition.next;
    store_->Submit(std::move(transition),
                   [this, next, line, bytes](const TransitionResult& result) { Done(*next, line, bytes, result); });
    return absl::OkStatus();
  }

  absl::Status Wait() {
    MutexLock lock(&mu_);
    while (count_ > 0) less_.Wait(&mu_);
    return error_;
  }

  // Those that were there already. After Wait.
  int64_t found() {
    MutexLock lock(&mu_);
    return found_;
  }

 private:
  void Done(const v1::Global& next, int64_t line, size_t bytes, const TransitionResult& result) {
    absl::Status error = result.status;
    bool found = false;
    if (result.code == TransitionResult::Code::kConflict) {
      found = result.current != nullptr && SameRecord(*result.current, next);
      if (!found) {
        error = Differs(path_, line,
                        absl::StrCat("transaction '", next.gtrid(), "': ",
                                     result.current == nullptr ? "what was in its way is gone again"
                                                               : DifferenceOf(*result.current, next)));
      }
    }
    MutexLock lock(&mu_);
    if (error_.ok()) error_ = error;
    if (found) ++found_;
    --count_;
    bytes_ -= bytes;
    less_.NotifyAll();
  }

  Store* const store_;
  const std::string path_;
  Mutex mu_;
  CondVar less_;
  int count_ ABSL_GUARDED_BY(mu_) = 0;
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t found_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status error_ ABSL_GUARDED_BY(mu_);
};

// Programs that wrote no horizon had deleted nothing that had not ended an hour before.
absl::Time HorizonOf(const StoreHeader& header) {
  return header.has_horizon() ? GetTime(header.horizon()) : GetTime(header.create_time()) - absl::Hours(1);
}

// One import into a half imported store.
class Import {
 public:
  Import(Store* store, TransferReader* reader) : store_(store), reader_(reader), cursor_(store) {}

  absl::StatusOr<TransferCounts> Run(const TransferProgress& progress) {
    counts_.expected = reader_->expected_globals();
    absl::Status status = ImportResources();
    if (status.ok()) status = SkipFound(progress);
    if (status.ok()) status = ImportRest(progress);
    if (status.ok()) status = store_->FinishImport(HorizonOf(reader_->header()));
    if (!status.ok()) return status;
    return counts_;
  }

 private:
  // Leaves the first line behind them in line_.
  absl::Status ImportResources() {
    absl::StatusOr<std::vector<v1::Resource>> found = store_->ReadResources();
    if (!found.ok()) return found.status();
    std::map<std::string, v1::Resource> in_store;
    for (v1::Resource& resource : *found) in_store[resource.name()] = std::move(resource);
    for (;;) {
      if (absl::Status status = NextLine(); !status.ok()) return status;
      if (!more_ || !line_.has_resource()) break;
      ++counts_.resources;
      const v1::Resource& resource = line_.resource();
      const auto same = in_store.find(resource.name());
      if (same == in_store.end()) {
        if (absl::Status status = store_->PutResource(resource); !status.ok()) return status;
        continue;
      }
      if (!SameRecord(same->second, resource)) {
        return Differs(reader_->path(), reader_->line_number(), absl::StrCat("resource '", resource.name(), "'"));
      }
      in_store.erase(same);
    }
    if (in_store.empty()) return absl::OkStatus();
    return Differs(reader_->path(), reader_->line_number(),
                   absl::StrCat("the resource '", in_store.begin()->first, "' is not in the file"));
  }

  // What an earlier run has left, as far as it is in the file's order.
  absl::Status SkipFound(const TransferProgress& progress) {
    while (more_) {
      const absl::StatusOr<GlobalPtr> next = cursor_.Peek();
      if (!next.ok()) return next.status();
      if (*next == nullptr || (*next)->gtrid() != line_.global().gtrid()) break;
      if (!SameRecord(**next, line_.global())) {
        return Differs(
            reader_->path(), reader_->line_number(),
            absl::StrCat("transaction '", line_.global().gtrid(), "': ", DifferenceOf(**next, line_.global())));
      }
      cursor_.Advance();
      ++counts_.globals;
      ++counts_.found;
      if (progress != nullptr && counts_.globals % 1000 == 0) progress(counts_);
      if (absl::Status status = NextLine(); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status ImportRest(const TransferProgress& progress) {
    // Some may be there out of order, if a run was cut short by a store that failed: they will be met as conflicts.
    int64_t others = 0;
    for (;; ++others) {
      const absl::StatusOr<GlobalPtr> next = cursor_.Peek();
      if (!next.ok()) return next.status();
      if (*next == nullptr) break;
      cursor_.Advance();
    }
    Inflow inflow(store_, reader_->path());
    while (more_) {
      auto global = std::make_shared<v1::Global>();
      global->Swap(line_.mutable_global());
      if (absl::Status status = inflow.Add(std::move(global), reader_->line_number()); !status.ok()) return status;
      ++counts_.globals;
      if (progress != nullptr && counts_.globals % 1000 == 0) progress(counts_);
      if (absl::Status status = NextLine(); !status.ok()) return status;
    }
    if (absl::Status status = inflow.Wait(); !status.ok()) return status;
    counts_.found += inflow.found();
    if (others <= inflow.found()) return absl::OkStatus();
    return Differs(reader_->path(), reader_->line_number(),
                   absl::StrCat(others - inflow.found(), " transactions of the store are not in the file"));
  }

  absl::Status NextLine() {
    const absl::StatusOr<bool> more = reader_->Next(&line_);
    if (!more.ok()) return more.status();
    more_ = *more;
    return absl::OkStatus();
  }

  Store* const store_;
  TransferReader* const reader_;
  StoreCursor cursor_;
  StoreLine line_;
  bool more_ = true;
  TransferCounts counts_;
};

// A store that is complete is not written to: it holds what the file holds, or that is an error.
absl::StatusOr<TransferCounts> ExpectSame(Store* store, TransferReader* reader, const TransferProgress& progress) {
  const absl::StatusOr<StoreAlone> alone = StoreAlone::Begin(store);
  if (!alone.ok()) return alone.status();
  absl::StatusOr<VerifyReport> report = CompareStore(store, reader, progress);
  if (!report.ok()) return report.status();
  if (report->differences.empty()) {
    report->counts.found = report->counts.globals;
    return report->counts;
  }
  return MakeError(
      Reason::STORE_DIFFERS,
      absl::StrCat("the store is complete and holds something else than ", reader->path(), " (", report->differences[0],
                   "); nothing was written: import into a place where there is no store"),
      {{"path", reader->path()}});
}

}  // namespace

absl::StatusOr<TransferCounts> ImportStore(StoreSettings settings, const std::string& path,
                                           const TransferProgress& progress) {
  absl::StatusOr<std::unique_ptr<TransferReader>> reader = TransferReader::Open(path);
  if (!reader.ok()) return reader.status();
  if (absl::Status status = (*reader)->CheckWhole(); !status.ok()) return status;
  const StoreHeader& header = (*reader)->header();
  if (settings.cluster.empty()) settings.cluster = header.cluster();
  if (settings.cluster != header.cluster()) {
    return MakeError(Reason::STORE_OTHER_CLUSTER,
                     absl::StrCat(path, " is of the cluster '", header.cluster(), "', not of '", settings.cluster,
                                  "': a cluster's name goes with its store"),
                     {{"stored", header.cluster()}, {"cluster", settings.cluster}});
  }
  settings.import_as = header.store_id();
  absl::StatusOr<std::unique_ptr<Store>> store = OpenStore(settings);
  if (!store.ok()) return store.status();
  if (!(*store)->IsHalfImported()) return ExpectSame(store->get(), reader->get(), progress);
  return Import(store->get(), reader->get()).Run(progress);
}

}  // namespace assent
