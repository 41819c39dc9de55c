// The demo's last act: one transaction over two engines.
#include <cstdio>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "participant_sdk/cpp/coordinator_connection.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "tests/fixtures/databases.h"
#include "tools/demo_driver/mishaps.h"
#include "tools/demo_driver/show.h"

namespace assent {
namespace {

constexpr size_t kOrders = 0;
constexpr absl::Duration kPatience = absl::Minutes(1);

void Say(absl::string_view text) {
  std::fputs(absl::StrCat(text, "\n").c_str(), stdout);
  std::fflush(stdout);
}

std::string OrderOf(const Purchase& purchase) {
  return absl::StrCat("INSERT INTO shop.orders VALUES (", purchase.user, ", '", purchase.item, "', ", purchase.price,
                      ")");
}

std::string TakeFromStock(const Purchase& purchase) {
  return absl::StrCat("UPDATE shop.stock SET pieces = pieces - 1 WHERE item = '", purchase.item, "'");
}

}  // namespace

absl::Status Mishaps::MixedEngines() {
  Say("\n(h) One transaction over two engines: the order is a row in MariaDB, the stock one in PostgreSQL");
  absl::StatusOr<std::unique_ptr<PrivateDatabase>> started = StartDatabase(v1::Resource::ENGINE_POSTGRESQL);
  if (!started.ok()) return started.status();
  stock_ = *std::move(started);
  Say(absl::StrCat("      stock: process ", stock_->pid(), ", a private PostgreSQL server"));
  v1::RegisterResourceRequest request;
  request.mutable_resource()->set_name("stock");
  DescribeResource(*stock_, request.mutable_resource());
  request.mutable_resource()->set_password_file(stock_->password_file());
  if (absl::Status status = api_.Register(request); !status.ok()) return status;
  if (absl::Status status = ShowStock("CREATE SCHEMA shop; CREATE TABLE shop.stock (item TEXT PRIMARY KEY, pieces INT "
                                      "CHECK (pieces >= 0)); INSERT INTO shop.stock VALUES ('chair', 5), ('sofa', 0)")
                                .status();
      !status.ok()) {
    return status;
  }
  absl::Status status = BuyOverBoth({7, "chair", 90}, /*should_succeed=*/true);
  if (status.ok()) status = BuyOverBoth({8, "sofa", 900}, /*should_succeed=*/false);
  if (status.ok()) status = BothDieBeforeCommit({9, "chair", 90});
  return status;
}

absl::StatusOr<QueryResult> Mishaps::ShowStock(const std::string& sql) {
  const absl::StatusOr<std::unique_ptr<BranchSession>> session = OpenSession(*stock_);
  if (!session.ok()) return session.status();
  QueryResult result = (*session)->Query(sql);
  ShowQuery("stock", sql, result);
  if (!result.ok()) return StatusOf(result.error, sql);
  return result;
}

absl::Status Mishaps::BuyOverBoth(const Purchase& purchase, bool should_succeed) {
  const absl::StatusOr<std::unique_ptr<BranchSession>> orders = ConnectTo(rig_->config().servers[kOrders]);
  if (!orders.ok()) return orders.status();
  const absl::StatusOr<std::unique_ptr<BranchSession>> stock = OpenSession(*stock_);
  if (!stock.ok()) return stock.status();
  absl::StatusOr<GlobalTransaction> transaction = client_.Begin();
  if (!transaction.ok()) return transaction.status();
  gtrids_.insert(transaction->gtrid());
  absl::StatusOr<Branch*> order = transaction->OpenBranch("orders", orders->get());
  if (!order.ok()) return order.status();
  absl::StatusOr<Branch*> taken = transaction->OpenBranch("stock", stock->get());
  if (!taken.ok()) return taken.status();
  // A statement that fails poisons its branch, and Commit rolls everything back.
  (*order)->Execute(OrderOf(purchase)).IgnoreError();
  (*taken)->Execute(TakeFromStock(purchase)).IgnoreError();
  const absl::Status told = transaction->Commit();
  Say(absl::StrCat("      user ", purchase.user, " wants a ", purchase.item, ": ",
                   v1::Outcome_Name(transaction->outcome()).substr(8), told.ok() ? "" : ", ",
                   told.ok() ? "" : told.message()));
  Expect(told.ok() == should_succeed, "(h): a purchase did not end as it should");
  return CheckBoth(purchase, should_succeed);
}

absl::Status Mishaps::CheckBoth(const Purchase& purchase, bool bought) {
  const absl::StatusOr<QueryResult> order =
      Show(kOrders, absl::StrCat("SELECT * FROM shop.orders WHERE user = ", purchase.user));
  if (!order.ok()) return order.status();
  const absl::StatusOr<QueryResult> stock =
      ShowStock(absl::StrCat("SELECT pieces FROM shop.stock WHERE item = '", purchase.item, "'"));
  if (!stock.ok()) return stock.status();
  if (bought) --chairs_;
  const std::string pieces = purchase.item == "chair" ? absl::StrCat(chairs_) : "0";
  Expect(order->rows().empty() != bought && stock->rows()[0][0] == pieces, "(h): the rows are not what they should be");
  return absl::OkStatus();
}

absl::Status Mishaps::BothDieBeforeCommit(const Purchase& purchase) {
  Say("      Now both connections break when COMMIT is decided and neither branch has been told");
  CoordinatorConnection coordinator(rig_->config().coordinator, ClientOptions());
  v1::CreateGlobalRequest create;
  create.add_branches()->set_resource("orders");
  create.add_branches()->set_resource("stock");
  const absl::StatusOr<v1::Global> global = coordinator.CreateGlobal(create, absl::Now() + kPatience);
  if (!global.ok()) return global.status();
  gtrids_.insert(global->gtrid());
  v1::FinalizeRequest finalize;
  finalize.set_gtrid(global->gtrid());
  finalize.set_decision(v1::DECISION_COMMIT);
  finalize.set_wait(v1::WAIT_DECIDED);
  std::vector<std::unique_ptr<BranchSession>> sessions;
  for (int i = 0; i < global->branches_size(); ++i) {
    const v1::Branch& branch = global->branches(i);
    const Xid xid{global->gtrid(), branch.bqual()};
    absl::StatusOr<std::unique_ptr<BranchSession>> session =
        i == 0 ? ConnectTo(rig_->config().servers[kOrders]) : OpenSession(*stock_);
    if (!session.ok()) return session.status();
    absl::optional<WitnessTable> witness;
    if (!branch.witness_table().empty()) witness = *WitnessTable::Parse(branch.witness_table());
    const StartResult started = (*session)->Start(xid, i == 0 ? OrderOf(purchase) : TakeFromStock(purchase));
    if (!started.xa.ok() || !started.first->ok()) return absl::InternalError("a branch cannot be started");
    const XaResult prepared = (*session)->Prepare(xid, witness ? &*witness : nullptr);
    if (!prepared.ok()) return absl::InternalError(prepared.error.message);
    v1::Vote* const vote = finalize.add_votes();
    vote->set_bqual(xid.bqual);
    vote->set_kind(v1::VOTE_KIND_PREPARED);
    vote->set_witnessed(witness.has_value());
    *vote->mutable_session() = (*session)->Describe();
    sessions.push_back(*std::move(session));
  }
  absl::Status status = coordinator.Finalize(finalize, absl::Now() + kPatience).status();
  if (!status.ok()) return status;
  for (const std::unique_ptr<BranchSession>& session : sessions) session->Abandon();
  status = AwaitState(global->gtrid(), v1::Global::STATE_COMMITTED);
  if (status.ok()) status = CheckBoth(purchase, true);
  if (status.ok())
    Say("    Each engine proved it in its own way: MariaDB by the witness row, PostgreSQL by pg_xact_status.");
  return status;
}

}  // namespace assent
