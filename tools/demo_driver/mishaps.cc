#include "tools/demo_driver/mishaps.h"

#include <mariadb/mysql.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/grpc_status.h"
#include "base/timestamp.h"
#include "base/xid.h"
#include "grpcpp/grpcpp.h"
#include "participant_sdk/cpp/branch.h"
#include "participant_sdk/cpp/coordinator_connection.h"
#include "participant_sdk/cpp/global_transaction.h"
#include "tests/fixtures/assentd.h"
#include "tests/fixtures/process.h"
#include "tools/demo_driver/show.h"
#include "tools/demo_driver/workers.h"

namespace assent {
namespace {

constexpr size_t kOrders = 0;
constexpr absl::Duration kTick = absl::Milliseconds(50);
constexpr absl::Duration kPatience = absl::Minutes(1);
constexpr absl::Duration kOrphanAge = absl::Seconds(2);

void Say(absl::string_view text) {
  std::fputs(absl::StrCat(text, "\n").c_str(), stdout);
  std::fflush(stdout);
}

std::string RowOf(const Purchase& purchase) {
  return absl::StrCat("SELECT * FROM shop.orders WHERE user = ", purchase.user);
}

// For people; the ids are ours, and hold nothing to be quoted.
std::string ShownXid(const Xid& xid) { return absl::StrCat("'", xid.gtrid, "','", xid.bqual, "',", kFormatId); }

bool All(absl::string_view) { return true; }

std::string InsertOf(const Purchase& purchase) {
  return absl::StrCat("INSERT INTO shop.orders VALUES (", purchase.user, ", '", purchase.item, "', ", purchase.price,
                      ")");
}

}  // namespace

Mishaps::Mishaps(BankRig* rig, std::string folder, const std::atomic<bool>* stop)
    : rig_(rig),
      folder_(std::move(folder)),
      stop_(stop),
      client_(rig->config().coordinator),
      api_(rig->config().coordinator) {}

absl::Status Mishaps::Play() {
  absl::Status status = KilledWorker();
  if (status.ok()) status = Orphan();
  if (status.ok()) status = Ghost();
  if (status.ok()) status = HandOfADba();
  if (status.ok()) status = MixedEngines();
  return status;
}

absl::Status Mishaps::KilledWorker() {
  Say("\n(d) A worker is killed between PREPARE and COMMIT: the coordinator finishes its branch, and proves it");
  const Purchase purchase = {3, "camera", 300};
  const absl::StatusOr<std::string> gtrid = HalfAPurchase(purchase);
  if (!gtrid.ok()) return gtrid.status();
  absl::Status status = OtherHalf(*gtrid, purchase);
  if (status.ok()) status = AwaitState(*gtrid, v1::Global::STATE_COMMITTED);
  if (!status.ok()) return status;
  const absl::StatusOr<bool> bought = ShowShop(rig_->config(), purchase, true);
  if (!bought.ok()) return bought.status();
  Expect(*bought, "(d): the rows are not what they should be");
  const absl::StatusOr<v1::GetGlobalResponse> global = api_.GetGlobal(*gtrid);
  if (!global.ok()) return global.status();
  const auto& evidence = global->global().branches(0).evidence();
  Expect(!evidence.empty() && evidence.rbegin()->witness() == v1::Evidence::SIGHTING_PRESENT,
         "(d): nothing proves that the branch was committed");
  Say("    Both rows are there, although the worker that wrote the order never came back.");
  return absl::OkStatus();
}

absl::Status Mishaps::Orphan() {
  Say("\n(e) An orphan: a prepared branch of this cluster that no record knows of, holding its locks");
  const BankServer& orders = rig_->config().servers[kOrders];
  v1::RegisterResourceRequest request;
  request.set_replace(true);
  v1::Resource* const resource = request.mutable_resource();
  resource->set_name(orders.resource);
  resource->set_engine(v1::Resource::ENGINE_MARIADB);
  resource->set_address(orders.address);
  resource->set_user(orders.user);
  resource->set_password_file(orders.password_file);
  SetDuration(kOrphanAge, resource->mutable_orphan_age());
  grpc::ClientContext context;
  v1::RegisterResourceResponse response;
  absl::Status status = FromGrpcStatus(api_.resources()->RegisterResource(&context, request, &response));
  if (!status.ok()) return status;
  const Purchase purchase = {4, "orphan", 1};
  const std::string xid = ShownXid({NewGtrid("demo", absl::Now()), "b1"});
  status =
      Show(kOrders, absl::StrCat("XA START ", xid, "; ", InsertOf(purchase), "; XA END ", xid, "; XA PREPARE ", xid))
          .status();
  if (status.ok()) status = Show(kOrders, "XA RECOVER").status();
  if (!status.ok()) return status;
  Say("      it is left alone for the orphan age, which is 2 s here and 60 s by default; then a sweep rolls it back");
  status = AwaitTrue(
      [&]() -> absl::StatusOr<bool> {
        const auto session = ConnectTo(orders);
        if (!session.ok()) return session.status();
        const auto prepared = (*session)->Recover();
        if (!prepared.ok()) return prepared.status();
        return prepared->empty();
      },
      "(e): the orphan is still there");
  if (status.ok()) status = Show(kOrders, "XA RECOVER").status();
  if (!status.ok()) return status;
  const absl::StatusOr<QueryResult> rows = Show(kOrders, RowOf(purchase));
  if (!rows.ok()) return rows.status();
  Expect(rows->rows().empty(), "(e): the orphan was committed");
  Say("    No decision on record means ROLLBACK: its row and its locks are gone.");
  return absl::OkStatus();
}

absl::Status Mishaps::Ghost() {
  Say("\n(f) A ghost: a pool resets the connection of a prepared branch, and a script commits the branch from another");
  const BankServer& orders = rig_->config().servers[kOrders];
  const Purchase purchase = {5, "lamp", 40};
  // Not by the SDK, which would refuse what comes.
  CoordinatorConnection coordinator(rig_->config().coordinator, ClientOptions());
  v1::CreateGlobalRequest create;
  create.add_branches()->set_resource(orders.resource);
  const absl::StatusOr<v1::Global> global = coordinator.CreateGlobal(create, absl::Now() + kPatience);
  if (!global.ok()) return global.status();
  gtrids_.insert(global->gtrid());
  const v1::Branch& branch = global->branches(0);
  const Xid xid{global->gtrid(), branch.bqual()};
  const std::string literal = ShownXid(xid);
  const absl::StatusOr<WitnessTable> witness = WitnessTable::Parse(branch.witness_table());
  if (!witness.ok()) return witness.status();
  const absl::StatusOr<std::unique_ptr<BranchSession>> pooled = ConnectTo(orders);
  if (!pooled.ok()) return pooled.status();
  const QueryResult prepared =
      (*pooled)->Query(absl::StrCat("XA START ", literal, ";", InsertOf(purchase), ";", witness->InsertSql(xid),
                                    ";XA END ", literal, ";XA PREPARE ", literal));
  if (!prepared.ok()) return StatusOf(prepared.error, "preparing the branch");
  v1::FinalizeRequest finalize;
  finalize.set_gtrid(xid.gtrid);
  finalize.set_decision(v1::DECISION_COMMIT);
  finalize.set_wait(v1::WAIT_DECIDED);
  v1::Vote* const vote = finalize.add_votes();
  vote->set_bqual(xid.bqual);
  vote->set_kind(v1::VOTE_KIND_PREPARED);
  vote->set_witnessed(true);
  *vote->mutable_session() = (*pooled)->Describe();
  absl::Status status = coordinator.Finalize(finalize, absl::Now() + kPatience).status();
  if (!status.ok()) return status;
  Say(absl::StrCat("      global transaction ", xid.gtrid, ": prepared, voted, COMMIT is decided"));
  if (mysql_reset_connection((*pooled)->BorrowHandle()) != 0) return absl::InternalError("cannot reset the connection");
  Say("      the pool: mysql_reset_connection, on the connection that holds the prepared branch");
  status = Show(kOrders, absl::StrCat("XA COMMIT ", literal)).status();
  if (status.ok()) status = Show(kOrders, "XA RECOVER").status();
  if (!status.ok()) return status;
  const absl::StatusOr<QueryResult> before = Show(kOrders, RowOf(purchase));
  if (!before.ok()) return before.status();
  Expect(before->rows().empty(), "(f): the server really did what it said, so there is no ghost to be seen");
  Say("      The server answered OK, the branch is no longer listed, and nothing was committed. The pool closes the\n"
      "      connection; the coordinator believes no OK but the witness");
  (*pooled)->Abandon();
  status = AwaitState(xid.gtrid, v1::Global::STATE_COMMITTED);
  if (!status.ok()) return status;
  const absl::StatusOr<v1::GetGlobalResponse> healed = api_.GetGlobal(xid.gtrid);
  if (!healed.ok()) return healed.status();
  const auto& evidence = healed->global().branches(0).evidence();
  Expect(std::any_of(evidence.begin(), evidence.end(), [](const v1::Evidence& each) { return each.ghost(); }),
         "(f): no evidence names the ghost");
  const absl::StatusOr<QueryResult> after = Show(kOrders, RowOf(purchase));
  if (!after.ok()) return after.status();
  Expect(after->rows().size() == 1, "(f): the row is missing");
  Say("    The ghost was made a branch again and committed: now the row is there.");
  return absl::OkStatus();
}

absl::Status Mishaps::HandOfADba() {
  Say("\n(g) A DBA rolls back a prepared branch by hand, and then COMMIT is decided");
  const Purchase purchase = {6, "desk", 200};
  const absl::StatusOr<std::string> gtrid = HalfAPurchase(purchase);
  if (!gtrid.ok()) return gtrid.status();
  const absl::StatusOr<v1::GetGlobalResponse> global = api_.GetGlobal(*gtrid);
  if (!global.ok()) return global.status();
  const std::string bqual = global->global().branches(0).bqual();
  // The connection of the worker that was killed has to be gone.
  const auto dba = ConnectTo(rig_->config().servers[kOrders]);
  if (!dba.ok()) return dba.status();
  const std::string sql = absl::StrCat("XA ROLLBACK ", ShownXid({*gtrid, bqual}));
  absl::Status status = AwaitTrue(
      [&]() -> absl::StatusOr<bool> {
        const QueryResult result = (*dba)->Query(sql);
        if (result.ok()) ShowQuery("orders", sql, result);
        return result.ok();
      },
      "(g): the DBA cannot roll back");
  if (status.ok()) status = OtherHalf(*gtrid, purchase);
  if (status.ok()) status = AwaitState(*gtrid, v1::Global::STATE_HEURISTIC);
  if (status.ok()) status = Assentctl({"in-doubt"}, All);
  if (!status.ok()) return status;
  Say("      Paid and not ordered: nobody but a human can mend that, so the alarm stays. The operator puts the order "
      "in\n"
      "      by hand, and says so");
  status = Show(kOrders, InsertOf(purchase)).status();
  if (status.ok()) {
    status = Assentctl({"resolve", *gtrid, bqual, "--as", "committed", "--reason",
                        "rolled back by hand during an incident; the order was put in again", "--yes"},
                       [](absl::string_view line) { return absl::StartsWith(line, "declared"); });
  }
  if (status.ok()) status = AwaitState(*gtrid, v1::Global::STATE_COMMITTED, /*with_history=*/true);
  if (!status.ok()) return status;
  const absl::StatusOr<bool> bought = ShowShop(rig_->config(), purchase, true);
  if (!bought.ok()) return bought.status();
  Expect(*bought, "(g): the rows are not what they should be");
  Say("    Who declared what, when and why stays in the transaction's history.");
  return absl::OkStatus();
}

absl::StatusOr<std::string> Mishaps::HalfAPurchase(const Purchase& purchase) {
  BeginOptions begin;
  begin.policy = v1::DECISION_POLICY_WHEN_ALL_PREPARED;
  begin.expected_branches = kBankServers;
  absl::StatusOr<GlobalTransaction> transaction = client_.Begin(begin);
  if (!transaction.ok()) return transaction.status();
  transaction->Leave();  // The workers' votes decide.
  gtrids_.insert(transaction->gtrid());
  ShopWorkers workers(rig_, folder_, stop_);
  absl::Status status = workers.Start("orders", transaction->gtrid(), purchase);
  if (status.ok()) status = workers.AwaitFirstVote(transaction->gtrid());
  if (!status.ok()) return status;
  const pid_t killed = workers.KillLast();
  const absl::StatusOr<std::string> said = workers.Finish();
  if (!said.ok()) return said.status();
  std::fputs(said->c_str(), stdout);
  Say(absl::StrCat("      kill -9 ", killed, ": the worker is gone, its branch is prepared"));
  return transaction->gtrid();
}

absl::Status Mishaps::OtherHalf(const std::string& gtrid, const Purchase& purchase) {
  ShopWorkers workers(rig_, folder_, stop_);
  if (absl::Status status = workers.Start("payments", gtrid, purchase); !status.ok()) return status;
  const absl::StatusOr<std::string> said = workers.Finish();
  if (!said.ok()) return said.status();
  std::fputs(said->c_str(), stdout);
  return absl::OkStatus();
}

absl::Status Mishaps::AwaitState(const std::string& gtrid, v1::Global::State state, bool with_history) {
  absl::Status status = AwaitTrue(
      [&]() -> absl::StatusOr<bool> {
        const absl::StatusOr<v1::GetGlobalResponse> now = api_.GetGlobal(gtrid);
        if (!now.ok()) return now.status();
        return now->global().state() == state;
      },
      absl::StrCat(gtrid, " is not ", v1::Global::State_Name(state)));
  if (!status.ok()) return status;
  bool in_table = false;
  return Assentctl({"globals", "get", gtrid}, [&](absl::string_view line) {
    const auto begins = [line](absl::string_view with) { return absl::StartsWith(line, with); };
    if (begins("REVISION")) in_table = with_history;
    if (begins("BRANCH  FOUND AT")) in_table = true;
    return in_table || begins("State") || begins("Outcome") || begins("Decision");
  });
}

absl::Status Mishaps::AwaitTrue(const std::function<absl::StatusOr<bool>()>& condition, absl::string_view what) {
  const absl::Time give_up = absl::Now() + kPatience;
  for (;;) {
    const absl::StatusOr<bool> now = condition();
    if (!now.ok()) return now.status();
    if (*now) return absl::OkStatus();
    if (*stop_) return absl::CancelledError("stopped");
    if (absl::Now() > give_up) return absl::DeadlineExceededError(what);
    absl::SleepFor(kTick);
  }
}

absl::Status Mishaps::Assentctl(const std::vector<std::string>& arguments,
                                const std::function<bool(absl::string_view line)>& worth) {
  const absl::StatusOr<std::string> program = FindBuiltProgram("tools/assentctl/assentctl");
  if (!program.ok()) return program.status();
  std::vector<std::string> argv = {*program, "--address", rig_->config().coordinator};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  SpawnOptions options;
  options.output_path = folder_ + "/assentctl.log";
  std::remove(options.output_path.c_str());
  const absl::StatusOr<int> code = Run(argv, options);
  if (!code.ok()) return code.status();
  Say(absl::StrCat("      $ assentctl ", absl::StrJoin(arguments, " ")));
  const std::string output = ReadTail(options.output_path, 100000);
  for (absl::string_view line : absl::StrSplit(output, '\n', absl::SkipEmpty())) {
    if (worth(line)) Say(absl::StrCat("      ", line));
  }
  if (*code != 0) return absl::InternalError(absl::StrCat("assentctl ended with ", *code, ": ", output));
  return absl::OkStatus();
}

absl::StatusOr<QueryResult> Mishaps::Show(size_t server, const std::string& sql) {
  const BankServer& place = rig_->config().servers[server];
  const absl::StatusOr<std::unique_ptr<BranchSession>> session = ConnectTo(place);
  if (!session.ok()) return session.status();
  QueryResult result = (*session)->Query(sql);
  ShowQuery(place.resource, sql, result);
  if (!result.ok()) return StatusOf(result.error, sql);
  return result;
}

void Mishaps::Expect(bool good, absl::string_view what) {
  if (!good) violations_.emplace_back(what);
}

}  // namespace assent
