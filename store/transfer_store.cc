#include "store/transfer_store.h"

#include <algorithm>
#include <map>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/optional.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "store/record.h"

namespace assent {
namespace {

constexpr size_t kMaxDifferences = 10;
// Transactions that stood elsewhere in the file, remembered until the store comes to them. Beyond it they are looked
// up.
constexpr size_t kMaxDisplaced = 100000;

}  // namespace

absl::StatusOr<GlobalPtr> StoreCursor::Peek() {
  while (index_ == page_.size()) {
    if (last_page_) return GlobalPtr();
    ListQuery query;
    query.page_size = kMaxPageSize;
    query.page_token = token_;
    query.order = ListOrder::kOldestFirst;
    absl::StatusOr<ListPage> page = store_->List(query);
    if (!page.ok()) return page.status();
    page_ = std::move(page->globals);
    token_ = std::move(page->next_page_token);
    last_page_ = token_.empty();
    index_ = 0;
  }
  return page_[index_];
}

absl::StatusOr<StoreAlone> StoreAlone::Begin(Store* store) {
  // Whoever was killed counts as alive until somebody says otherwise, and here nobody else may be there to say it.
  if (absl::Status status = store->Members().DeclareSilentDead(); !status.ok()) return status;
  const absl::StatusOr<std::vector<Instance>> instances = store->Members().Instances();
  if (!instances.ok()) return instances.status();
  StoreAlone alone;
  std::vector<std::string> alive;
  for (const Instance& instance : *instances) {
    if (instance.alive) alive.push_back(instance.address);
    alone.instances_.push_back(instance.key);
  }
  if (alive.empty()) return alone;
  return MakeError(Reason::STORE_LOCKED,
                   absl::StrCat("coordinators work on the store: ", absl::StrJoin(alive, ", "),
                                "; stop them first (one that was killed counts as alive until its lease ends)"),
                   {{"instances", absl::StrJoin(alive, ",")}});
}

absl::Status StoreAlone::Check(Store* store) const {
  const absl::StatusOr<StoreAlone> now = Begin(store);
  if (!now.ok()) return now.status();
  const auto is_known = [this](const InstanceKey& key) {
    return std::any_of(instances_.begin(), instances_.end(),
                       [&](const InstanceKey& known) { return known.id == key.id && known.epoch == key.epoch; });
  };
  if (std::all_of(now->instances_.begin(), now->instances_.end(), is_known)) return absl::OkStatus();
  return MakeError(Reason::STORE_DIFFERS,
                   "a coordinator has worked on the store meanwhile: repeat with all of them stopped");
}

bool SameRecord(const google::protobuf::Message& a, const google::protobuf::Message& b) {
  // Nothing in our records has an order of its own (no maps), so their bytes say it.
  return a.SerializeAsString() == b.SerializeAsString();
}

std::string DifferenceOf(const v1::Global& in_store, const v1::Global& in_file) {
  if (in_store.gtrid() != in_file.gtrid()) {
    return absl::StrCat("the store has '", in_store.gtrid(), "' with the same request id");
  }
  if (in_store.revision() != in_file.revision() || in_store.state() != in_file.state()) {
    return absl::StrCat("the store has revision ", in_store.revision(), " (", v1::Global::State_Name(in_store.state()),
                        "), the file ", in_file.revision(), " (", v1::Global::State_Name(in_file.state()), ")");
  }
  return absl::StrCat("the store has another record of the same revision (", in_store.revision(), ")");
}

namespace {

// One comparison of a file with a store.
class Comparison {
 public:
  Comparison(Store* store, TransferReader* reader) : store_(store), reader_(reader), cursor_(store) {}

  absl::StatusOr<VerifyReport> Run(const TransferProgress& progress) {
    report_.counts.expected = reader_->expected_globals();
    absl::StatusOr<std::vector<v1::Resource>> resources = store_->ReadResources();
    if (!resources.ok()) return resources.status();
    for (v1::Resource& resource : *resources) resources_[resource.name()] = std::move(resource);
    const StoreHeader& header = reader_->header();
    const absl::StatusOr<absl::Time> horizon = store_->ReadHorizon();
    if (!horizon.ok()) return horizon.status();
    if (header.has_horizon() && *horizon != GetTime(header.horizon())) {
      Add(absl::StrCat("line 1: the horizon of what was deleted: the store has ",
                       absl::FormatTime(*horizon, absl::UTCTimeZone()), ", the file ",
                       absl::FormatTime(GetTime(header.horizon()), absl::UTCTimeZone())));
    }
    StoreLine line;
    for (;;) {
      const absl::StatusOr<bool> read = reader_->Next(&line);
      if (!read.ok()) return read.status();
      if (!*read) break;
      if (line.has_resource()) {
        CompareResource(line.resource());
      } else if (absl::Status status = CompareGlobal(line.global()); !status.ok()) {
        return status;
      }
      if (progress != nullptr && report_.counts.globals % 1000 == 0) progress(report_.counts);
    }
    for (const auto& [name, resource] : resources_) {
      Add(absl::StrCat("resource '", name, "': it is not in the file"));
    }
    if (absl::Status status = CompareRest(); !status.ok()) return status;
    return report_;
  }

 private:
  void Add(const std::string& difference) {
    if (report_.differences.size() < kMaxDifferences) {
      report_.differences.push_back(difference);
    } else {
      ++report_.more_differences;
    }
  }
  void AddLine(const std::string& what, const std::string& difference) {
    Add(absl::StrCat("line ", reader_->line_number(), ": ", what, ": ", difference));
  }

  void CompareResource(const v1::Resource& resource) {
    ++report_.counts.resources;
    const auto found = resources_.find(resource.name());
    const std::string what = absl::StrCat("resource '", resource.name(), "'");
    if (found == resources_.end()) {
      AddLine(what, "it is not in the store");
      return;
    }
    if (!SameRecord(found->second, resource)) AddLine(what, "the store has another record");
    resources_.erase(found);
  }

  absl::Status CompareGlobal(const v1::Global& global) {
    ++report_.counts.globals;
    absl::StatusOr<GlobalPtr> next = Next();
    if (!next.ok()) return next.status();
    GlobalPtr found;
    if (*next != nullptr && (*next)->gtrid() == global.gtrid()) {
      found = *next;
      cursor_.Advance();
    } else {
      next = store_->Read(global.gtrid());
      if (!next.ok()) return next.status();
      found = *next;
      if (found != nullptr) {
        ++pending_;
        ++report_.displaced;
        if (displaced_.size() < kMaxDisplaced) displaced_.insert(global.gtrid());
      }
    }
    const std::string what = absl::StrCat("transaction '", global.gtrid(), "'");
    if (found == nullptr) {
      AddLine(what, "it is not in the store");
    } else if (!SameRecord(*found, global)) {
      AddLine(what, DifferenceOf(*found, global));
    }
    return absl::OkStatus();
  }

  // The store's next one that the file has not named yet.
  absl::StatusOr<GlobalPtr> Next() {
    for (;;) {
      absl::StatusOr<GlobalPtr> next = cursor_.Peek();
      if (!next.ok() || *next == nullptr || displaced_.erase((*next)->gtrid()) == 0) return next;
      --pending_;
      cursor_.Advance();
    }
  }

  // What the store has behind the end of the file.
  absl::Status CompareRest() {
    for (;;) {
      const absl::StatusOr<GlobalPtr> next = Next();
      if (!next.ok()) return next.status();
      if (*next == nullptr) return absl::OkStatus();
      cursor_.Advance();
      // Of those that were named out of order and not remembered, nobody knows which they are; only how many.
      if (pending_ > static_cast<int64_t>(displaced_.size())) {
        --pending_;
      } else {
        Add(absl::StrCat("transaction '", (*next)->gtrid(), "': it is not in the file"));
      }
    }
  }

  Store* const store_;
  TransferReader* const reader_;
  StoreCursor cursor_;
  std::map<std::string, v1::Resource> resources_;
  std::unordered_set<std::string> displaced_;
  // Named by the file, and not yet met in the store's own order.
  int64_t pending_ = 0;
  VerifyReport report_;
};

}  // namespace

absl::StatusOr<VerifyReport> CompareStore(Store* store, TransferReader* reader, const TransferProgress& progress) {
  return Comparison(store, reader).Run(progress);
}

absl::StatusOr<VerifyReport> VerifyStore(StoreSettings settings, const std::string& path,
                                         const TransferProgress& progress) {
  absl::StatusOr<std::unique_ptr<TransferReader>> reader = TransferReader::Open(path);
  if (!reader.ok()) return reader.status();
  if (absl::Status status = (*reader)->CheckWhole(); !status.ok()) return status;
  const StoreHeader& header = (*reader)->header();
  if (settings.cluster.empty()) settings.cluster = header.cluster();
  settings.must_exist = true;
  absl::StatusOr<std::unique_ptr<Store>> store = OpenStore(settings);
  if (!store.ok()) return store.status();
  if ((*store)->Id() != header.store_id() || settings.cluster != header.cluster()) {
    return MakeError(Reason::STORE_DIFFERS,
                     absl::StrCat("the file is of the store ", header.store_id(), " of the cluster '", header.cluster(),
                                  "', and this is the store ", (*store)->Id(), " of '", settings.cluster, "'"));
  }
  const absl::StatusOr<StoreAlone> alone = StoreAlone::Begin(store->get());
  if (!alone.ok()) return alone.status();
  absl::StatusOr<VerifyReport> report = CompareStore(store->get(), reader->get(), progress);
  if (!report.ok()) return report;
  if (absl::Status status = alone->Check(store->get()); !status.ok()) return status;
  return report;
}

}  // namespace assent
