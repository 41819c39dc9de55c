#include "tests/bank/checker.h"

#include <array>
#include <map>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/query_result.h"
#include "resource_manager/database_engine.h"
#include "tests/fixtures/coordinator_api.h"

namespace assent {
namespace {

constexpr absl::Duration kOrphanPatience = absl::Minutes(1);
constexpr absl::Duration kOrphanPoll = absl::Milliseconds(100);

struct LedgerRow {
  int64_t account = 0;
  int64_t amount = 0;
  std::string gtrid;
};

// What one server holds.
struct ServerState {
  std::map<int64_t, int64_t> balances;
  std::map<int64_t, std::vector<LedgerRow>> ledger;  // By transfer.
  std::vector<std::string> prepared;                 // gtrids.
  std::vector<std::string> witnesses;                // gtrids.
};

class Checker {
 public:
  Checker(const BankConfig& config, const std::vector<JournalEntry>& journal) : config_(config), journal_(journal) {}

  // Waits until nothing is prepared, or some time has passed: a sole participant that was killed has left no record.
  absl::Status AwaitOrphans();
  absl::Status Load();
  BankReport Run(const CheckOptions& options);

 private:
  // Opens a new line of the report; later Violate calls belong to it.
  void Look(std::string what) {
    report_.checks.emplace_back();
    report_.checks.back().what = std::move(what);
  }
  void Found(std::string detail) { report_.checks.back().detail = std::move(detail); }
  void Violate(std::string text) {
    CheckLine& line = report_.checks.back();
    ++line.count;
    ++report_.violations;
    if (line.violations.size() < kMaxViolationsShown) line.violations.push_back(std::move(text));
  }

  absl::Status LoadServer(size_t i);
  void CheckSum();
  void CheckBalances();
  void CheckBothOrNeither();
  void CheckTold(const CheckOptions& options);
  void CheckPrepared();
  void CheckCoordinator(const CheckOptions& options);
  void CheckWitnesses();
  bool IsThere(int64_t transfer) const {
    return states_[0].ledger.count(transfer) + states_[1].ledger.count(transfer) > 0;
  }

  const BankConfig& config_;
  const std::vector<JournalEntry>& journal_;
  std::array<ServerState, kBankServers> states_;
  std::unordered_map<std::string, v1::Global> globals_;
  BankReport report_;
};

absl::Status Checker::LoadServer(size_t i) {
  const absl::StatusOr<std::unique_ptr<BranchSession>> session = ConnectTo(config_.servers[i]);
  if (!session.ok()) return session.status();
  ServerState& state = states_[i];
  const QueryResult accounts = (*session)->Query("SELECT id, balance FROM bank.accounts");
  const QueryResult ledger = (*session)->Query("SELECT transfer, account, amount, gtrid FROM bank.ledger");
  const bool leaves_witnesses = FindDatabaseEngine(config_.servers[i].engine)->leaves_witnesses;
  const QueryResult witnesses =
      leaves_witnesses ? (*session)->Query("SELECT gtrid FROM assent.witness WHERE gtrid > ''") : QueryResult();
  for (const QueryResult* result : {&accounts, &ledger, &witnesses}) {
    if (!result->ok()) return StatusOf(result->error, absl::StrCat("cannot look at ", config_.servers[i].resource));
  }
  for (const auto& row : accounts.rows()) state.balances[NumberIn(row[0])] = NumberIn(row[1]);
  for (const auto& row : ledger.rows()) {
    state.ledger[NumberIn(row[0])].push_back({NumberIn(row[1]), NumberIn(row[2]), row[3].value_or("")});
  }
  for (const auto& row : witnesses.rows()) state.witnesses.push_back(row[0].value_or(""));
  const absl::StatusOr<std::vector<RecoveredXid>> prepared = (*session)->Recover();
  if (!prepared.ok()) return prepared.status();
  for (const RecoveredXid& xid : *prepared) state.prepared.push_back(xid.gtrid);
  return absl::OkStatus();
}

absl::Status Checker::AwaitOrphans() {
  for (const absl::Time give_up = absl::Now() + kOrphanPatience; absl::Now() < give_up; absl::SleepFor(kOrphanPoll)) {
    size_t prepared = 0;
    for (const BankServer& server : config_.servers) {
      const absl::StatusOr<std::unique_ptr<BranchSession>> session = ConnectTo(server);
      if (!session.ok()) return session.status();
      const absl::StatusOr<std::vector<RecoveredXid>> xids = (*session)->Recover();
      if (!xids.ok()) return xids.status();
      prepared += xids->size();
    }
    if (prepared == 0) break;
  }
  return absl::OkStatus();
}

absl::Status Checker::Load() {
  for (size_t i = 0; i < kBankServers; ++i) {
    if (absl::Status status = LoadServer(i); !status.ok()) return status;
  }
  absl::StatusOr<std::vector<v1::Global>> globals = CoordinatorApi(config_.coordinator).ListAllGlobals();
  if (!globals.ok()) return globals.status();
  for (v1::Global& global : *globals) {
    const std::string gtrid = global.gtrid();
    globals_[gtrid] = std::move(global);
  }
  return absl::OkStatus();
}

void Checker::CheckSum() {
  Look("the sum of all balances is what it was");
  int64_t sum = 0;
  size_t accounts = 0;
  for (const ServerState& state : states_) {
    accounts += state.balances.size();
    for (const auto& account : state.balances) sum += account.second;
  }
  const int64_t expected = config_.accounts * config_.initial_balance;
  Found(absl::StrCat(sum, " in ", accounts, " accounts"));
  if (sum != expected) Violate(absl::StrCat("the sum is ", sum, ", it should be ", expected));
  if (accounts != static_cast<size_t>(config_.accounts)) Violate(absl::StrCat("there are ", accounts, " accounts"));
}

void Checker::CheckBalances() {
  Look("every balance is explained by its ledger rows");
  int64_t rows = 0;
  for (const ServerState& state : states_) {
    std::map<int64_t, int64_t> expected;
    for (const auto& account : state.balances) expected[account.first] = config_.initial_balance;
    for (const auto& transfer : state.ledger) {
      for (const LedgerRow& row : transfer.second) {
        expected[row.account] += row.amount;
        ++rows;
      }
    }
    for (const auto& account : expected) {
      const auto it = state.balances.find(account.first);
      const int64_t balance = it == state.balances.end() ? 0 : it->second;
      if (balance != account.second) {
        Violate(absl::StrCat("account ", account.first, " has ", balance, ", its ledger says ", account.second));
      }
    }
  }
  Found(absl::StrCat(rows, " ledger rows"));
}

void Checker::CheckBothOrNeither() {
  Look("every transfer is on both servers or on neither");
  std::map<int64_t, int> transfers;
  for (const ServerState& state : states_) {
    for (const auto& transfer : state.ledger) ++transfers[transfer.first];
  }
  for (const auto& transfer : transfers) {
    if (transfer.second != kBankServers) {
      Violate(absl::StrCat("transfer ", transfer.first, " is on one server only"));
      continue;
    }
    const std::vector<LedgerRow>& a = states_[0].ledger[transfer.first];
    const std::vector<LedgerRow>& b = states_[1].ledger[transfer.first];
    if (a.size() != 1 || b.size() != 1 || a[0].amount + b[0].amount != 0 || a[0].gtrid != b[0].gtrid) {
      Violate(absl::StrCat("transfer ", transfer.first, " has rows that do not fit together"));
    }
  }
  Found(absl::StrCat(transfers.size(), " on both"));
}

void Checker::CheckTold(const CheckOptions& options) {
  Look("what each caller was told is what is in the databases");
  std::map<int64_t, int> seen;
  for (const JournalEntry& entry : journal_) {
    if (++seen[entry.transfer] > 1) Violate(absl::StrCat("transfer ", entry.transfer, " was told twice"));
    const bool there = IsThere(entry.transfer);
    const std::string name = absl::StrCat("transfer ", entry.transfer, " (", entry.gtrid, ")");
    switch (entry.told) {
      case Told::kCommitted:
        ++report_.committed;
        if (!there) Violate(absl::StrCat(name, " was told COMMITTED and is not there"));
        break;
      case Told::kRolledBack:
        ++report_.rolled_back;
        if (there) Violate(absl::StrCat(name, " was told ROLLED_BACK and is there"));
        break;
      case Told::kInDoubt:
        ++report_.in_doubt;
        if (!options.may_be_in_doubt) Violate(absl::StrCat(name, " was left in doubt: ", entry.why));
        break;
    }
  }
  Found(absl::StrCat(report_.committed, " committed, ", report_.rolled_back, " rolled back, ", report_.in_doubt,
                     " in doubt"));
}

void Checker::CheckPrepared() {
  Look("nothing is prepared on either server");
  int64_t prepared = 0;
  for (size_t i = 0; i < kBankServers; ++i) {
    for (const std::string& gtrid : states_[i].prepared) {
      ++prepared;
      Violate(absl::StrCat("a branch of ", gtrid, " is still prepared on ", config_.servers[i].resource));
    }
  }
  Found(absl::StrCat(prepared, " prepared branches"));
}

void Checker::CheckCoordinator(const CheckOptions& options) {
  Look("the coordinator says the same as the databases");
  std::unordered_map<std::string, int64_t> in_databases;
  for (const ServerState& state : states_) {
    for (const auto& transfer : state.ledger) in_databases[transfer.second[0].gtrid] = transfer.first;
  }
  for (const auto& item : globals_) {
    if (options.foreign.count(item.first) > 0) continue;
    const v1::Global& global = item.second;
    const bool there = in_databases.count(item.first) > 0;
    const std::string state = v1::Global::State_Name(global.state());
    if (global.state() == v1::Global::STATE_COMMITTED) {
      if (!there) Violate(absl::StrCat(item.first, " is COMMITTED at the coordinator and not in the databases"));
    } else if (global.state() == v1::Global::STATE_ROLLED_BACK) {
      if (there) Violate(absl::StrCat(item.first, " is ROLLED_BACK at the coordinator and is in the databases"));
    } else {
      Violate(absl::StrCat(item.first, " is unfinished at the coordinator: ", state, " ", global.cause_detail()));
    }
  }
  for (const auto& item : in_databases) {
    if (globals_.count(item.first) == 0) Violate(absl::StrCat(item.first, " is not known to the coordinator"));
  }
  Found(absl::StrCat(globals_.size(), " global transactions"));
}

void Checker::CheckWitnesses() {
  Look("no witness without a decision to commit");
  size_t witnesses = 0;
  for (const ServerState& state : states_) {
    witnesses += state.witnesses.size();
    for (const std::string& gtrid : state.witnesses) {
      const auto it = globals_.find(gtrid);
      if (it == globals_.end() || it->second.decision() != v1::DECISION_COMMIT) {
        Violate(absl::StrCat("there is a witness of ", gtrid, ", which was not decided COMMIT"));
      }
    }
  }
  Found(absl::StrCat(witnesses, " witness rows"));
}

BankReport Checker::Run(const CheckOptions& options) {
  CheckSum();
  CheckBalances();
  CheckBothOrNeither();
  CheckTold(options);
  CheckPrepared();
  CheckCoordinator(options);
  CheckWitnesses();
  return std::move(report_);
}

}  // namespace

absl::StatusOr<BankReport> CheckBank(const BankConfig& config, const std::vector<JournalEntry>& journal,
                                     const CheckOptions& options) {
  Checker checker(config, journal);
  if (absl::Status status = checker.AwaitOrphans(); !status.ok()) return status;
  if (absl::Status status = checker.Load(); !status.ok()) return status;
  return checker.Run(options);
}

}  // namespace assent
