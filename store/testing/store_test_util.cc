#include "store/testing/store_test_util.h"

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace assent {

GlobalPtr MakeGlobal(absl::string_view gtrid, int64_t revision, v1::Global::State state, absl::string_view request_id,
                     size_t bytes) {
  auto global = std::make_shared<v1::Global>();
  global->set_gtrid(std::string(gtrid));
  global->set_revision(revision);
  global->set_state(state);
  global->set_request_id(std::string(request_id));
  global->set_cause_detail(std::string(bytes, 'x'));
  return global;
}

Transition To(GlobalPtr next, Durability durability) {
  Transition transition;
  transition.expected_revision = next->revision() - 1;
  transition.next = std::move(next);
  transition.durability = durability;
  return transition;
}

Store::Done Results::Next() {
  MutexLock lock(&mu_);
  const int index = static_cast<int>(results_.size());
  results_.emplace_back();
  return [this, index](TransitionResult result) {
    MutexLock lock(&mu_);
    results_[index] = std::move(result);
    order_.push_back(index);
    arrived_.NotifyAll();
  };
}

std::vector<TransitionResult> Results::Wait() {
  MutexLock lock(&mu_);
  while (order_.size() < results_.size()) arrived_.Wait(&mu_);
  return results_;
}

std::vector<int> Results::Order() {
  MutexLock lock(&mu_);
  return order_;
}

TransitionResult SubmitAndWait(Store* store, Transition transition) {
  Results results;
  store->Submit(std::move(transition), results.Next());
  return results.Wait()[0];
}

std::vector<TransitionResult> SubmitAllAndWait(Store* store, std::vector<Transition> transitions) {
  Results results;
  for (Transition& transition : transitions) store->Submit(std::move(transition), results.Next());
  return results.Wait();
}

std::string ToString(const TransitionResult& result) {
  static constexpr const char* kNames[] = {"APPLIED", "CONFLICT", "NOT_APPLIED", "UNKNOWN"};
  std::string text = kNames[static_cast<int>(result.code)];
  if (!result.status.ok()) absl::StrAppend(&text, " ", ReasonName(result.status));
  return text;
}

std::string ReasonName(const absl::Status& status) {
  if (status.ok()) return "OK";
  const absl::optional<Reason> reason = ReasonOf(status);
  return reason ? std::string(InfoOf(*reason).name) : status.ToString();
}

TempFolder::TempFolder() {
  const char* const base = std::getenv("TEST_TMPDIR");
  path_ = absl::StrCat(base == nullptr ? "/tmp" : base, "/store_XXXXXX");
  if (mkdtemp(&path_[0]) == nullptr) std::abort();
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempFolder::File(absl::string_view name) const { return absl::StrCat(path_, "/", name); }

}  // namespace assent
