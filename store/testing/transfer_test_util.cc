#include "store/testing/transfer_test_util.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/timestamp.h"
#include "store/testing/store_test_util.h"

namespace assent {
namespace {

v1::Global::State StateOf(int i) {
  if (i % 7 == 0) return v1::Global::STATE_ACTIVE;
  if (i % 11 == 0) return v1::Global::STATE_COMMITTING;
  if (i % 13 == 0) return v1::Global::STATE_HEURISTIC;
  return i % 2 == 0 ? v1::Global::STATE_COMMITTED : v1::Global::STATE_ROLLED_BACK;
}

}  // namespace

GlobalPtr MakeHistory(int i) {
  auto global = std::make_shared<v1::Global>();
  const absl::Time begun = absl::FromUnixMicros(1767780000000000 + int64_t{i} * 1234567);
  global->set_gtrid(absl::StrFormat("test-%08x-%d", static_cast<unsigned>(i) * 2654435761u, i));
  global->set_state(StateOf(i));
  if (i % 3 == 0) global->set_request_id(absl::StrCat("request-", i));
  SetTime(begun, global->mutable_create_time());
  SetTime(begun + absl::Minutes(1), global->mutable_expire_time());
  SetDuration(absl::Minutes(1), global->mutable_timeout());
  for (const char* bqual : {"b1", "b2"}) {
    v1::Branch* branch = global->add_branches();
    branch->set_bqual(bqual);
    branch->set_resource(bqual[1] == '1' ? "orders" : "payments");
    branch->set_state(v1::Branch::STATE_PREPARED);
    branch->set_vote(v1::VOTE_KIND_PREPARED);
    branch->set_witness_table("assent.witness");
    SetTime(begun, branch->mutable_create_time());
    SetTime(begun + absl::Milliseconds(5), branch->mutable_update_time());
    branch->mutable_session()->set_server("db1:3306");
    branch->mutable_session()->set_connection_id(i);
  }
  if (i % 13 == 0) global->mutable_branches(0)->add_evidence()->set_detail("“quoted”, \\ and \n \x01 \xF0\x9F\x98\x80");
  for (int revision = 1; revision <= 4; ++revision) {
    v1::HistoryEntry* entry = global->add_history();
    entry->set_revision(revision);
    SetTime(begun + absl::Milliseconds(revision), entry->mutable_time());
    entry->set_actor("ipv4:10.0.0.7:41234");
    entry->set_event(v1::HistoryEntry::EVENT_VOTED);
    entry->set_detail("b1, b2");
  }
  global->set_revision(4);
  if (IsFinished(global->state())) SetTime(begun + absl::Milliseconds(9), global->mutable_end_time());
  return global;
}

void FillWithHistory(Store* store, int first, int count) {
  for (int done = 0; done < count;) {
    std::vector<Transition> transitions;
    for (int i = 0; i < std::min(count - done, 20000); ++i) {
      Transition transition;
      transition.next = MakeHistory(first + done + i);
      transitions.push_back(std::move(transition));
    }
    done += static_cast<int>(transitions.size());
    for (const TransitionResult& result : SubmitAllAndWait(store, std::move(transitions))) {
      CHECK_EQ(ToString(result), "APPLIED");
    }
  }
}

std::vector<std::string> AllRecords(Store* store) {
  std::vector<std::string> records;
  ListQuery query;
  query.page_size = 1000;
  query.order = ListOrder::kOldestFirst;
  do {
    const absl::StatusOr<ListPage> page = store->List(query);
    CHECK(page.ok()) << page.status();
    for (const GlobalPtr& global : page->globals) records.push_back(global->SerializeAsString());
    query.page_token = page->next_page_token;
  } while (!query.page_token.empty());
  return records;
}

}  // namespace assent
