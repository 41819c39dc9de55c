#include "tests/bank/bank.h"

#include <sys/stat.h>

#include <fstream>
#include <random>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/address.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "resource_manager/database_engine.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/databases.h"

namespace assent {
namespace {

constexpr int64_t kMaxAmount = 20;
constexpr int64_t kAbsurdAmount = 1000000000;
constexpr int64_t kRowsPerInsert = 500;
// Well above a restart of the coordinator, during which rows stay locked.
constexpr int kLockWaitSeconds = 30;
constexpr absl::Duration kFlushPatience = absl::Seconds(30);
// What a teller that was killed before its decision has left prepared, nobody waits for for long.
constexpr absl::Duration kOrphanAge = absl::Seconds(2);
// Something is away: it is not asked without a pause.
constexpr absl::Duration kNothingBegunPause = absl::Milliseconds(20);

// Every other transfer takes the short way, so that everything that is done to the bank is done to both.
bool IsSole(const TransferRequest& request) { return request.id % 2 == 0; }

int ServerOf(int64_t account) { return static_cast<int>(account % kBankServers); }

absl::Status Check(const QueryResult& result, absl::string_view doing) { return StatusOf(result.error, doing); }

bool IsPostgres(v1::Resource::Engine engine) { return engine == v1::Resource::ENGINE_POSTGRESQL; }

absl::Status SetUpServer(const BankConfig& config, int server, BranchSession* session) {
  const bool cascade = IsPostgres(config.servers[static_cast<size_t>(server)].engine);
  absl::Status status =
      Check(session->Query(absl::StrCat("DROP SCHEMA IF EXISTS bank", cascade ? " CASCADE" : "",
                                        ";CREATE SCHEMA bank;"
                                        "CREATE TABLE bank.accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL,"
                                        " CONSTRAINT balance_not_negative CHECK (balance >= 0));"
                                        "CREATE TABLE bank.ledger (transfer BIGINT NOT NULL, account BIGINT NOT NULL,"
                                        " amount BIGINT NOT NULL, gtrid VARCHAR(64) NOT NULL,"
                                        " PRIMARY KEY (transfer, account))")),
            "cannot make the bank's schema");
  std::string rows;
  int64_t waiting = 0;
  for (int64_t id = server; status.ok() && id < config.accounts; id += kBankServers) {
    absl::StrAppend(&rows, rows.empty() ? "" : ",", "(", id, ",", config.initial_balance, ")");
    if (++waiting < kRowsPerInsert && id + kBankServers < config.accounts) continue;
    status = Check(session->Query(absl::StrCat("INSERT INTO bank.accounts VALUES ", rows)), "cannot open accounts");
    rows.clear();
    waiting = 0;
  }
  return status;
}

}  // namespace

absl::Status BankConfig::Save(const std::string& path) const {
  std::ofstream file(path);
  chmod(path.c_str(), 0600);
  file << coordinator << "\n" << accounts << "\n" << initial_balance << "\n";
  for (const BankServer& server : servers) {
    file << server.resource << "\n"
         << server.address << "\n"
         << server.user << "\n"
         << server.password_file << "\n"
         << v1::Resource::Engine_Name(server.engine) << "\n"
         << server.database << "\n";
  }
  file.close();
  return file ? absl::OkStatus() : absl::InternalError(absl::StrCat("cannot write ", path));
}

absl::StatusOr<BankConfig> BankConfig::Load(const std::string& path) {
  std::ifstream file(path);
  BankConfig config;
  std::getline(file, config.coordinator);
  file >> config.accounts >> config.initial_balance >> std::ws;
  for (BankServer& server : config.servers) {
    std::string engine;
    for (std::string* field :
         {&server.resource, &server.address, &server.user, &server.password_file, &engine, &server.database}) {
      std::getline(file, *field);
    }
    if (!v1::Resource::Engine_Parse(engine, &server.engine)) file.setstate(std::ios::failbit);
  }
  if (file.fail()) return absl::DataLossError(absl::StrCat(path, " is not a bank's configuration"));
  return config;
}

absl::StatusOr<std::unique_ptr<BranchSession>> ConnectTo(const BankServer& server) {
  std::ifstream file(server.password_file);
  std::ostringstream password;
  password << file.rdbuf();
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read the password file ", server.password_file));
  absl::StatusOr<Address> address = ParseAddress(server.address);
  if (!address.ok()) return address.status();
  ConnectOptions options;
  options.address = *std::move(address);
  options.user = server.user;
  options.password = std::string(absl::StripTrailingAsciiWhitespace(password.str()));
  options.database = server.database;
  absl::StatusOr<std::unique_ptr<BranchSession>> session = FindDatabaseEngine(server.engine)->connect(options);
  if (!session.ok()) return session.status();
  const std::string timeout = IsPostgres(server.engine)
                                  ? absl::StrCat("SET lock_timeout = '", kLockWaitSeconds, "s'")
                                  : absl::StrCat("SET SESSION innodb_lock_wait_timeout = ", kLockWaitSeconds);
  const absl::Status status = Check((*session)->Query(timeout), "cannot set the lock wait timeout");
  if (!status.ok()) return status;
  return session;
}

absl::Status SetUpBank(const BankConfig& config) {
  CoordinatorApi api(config.coordinator);
  for (int i = 0; i < kBankServers; ++i) {
    const BankServer& server = config.servers[static_cast<size_t>(i)];
    const absl::StatusOr<std::unique_ptr<BranchSession>> session = ConnectTo(server);
    if (!session.ok()) return session.status();
    absl::Status status = SetUpServer(config, i, session->get());
    if (status.ok()) {
      v1::RegisterResourceRequest request;
      request.set_replace(true);
      v1::Resource* const resource = request.mutable_resource();
      resource->set_name(server.resource);
      resource->set_engine(server.engine);
      resource->set_database(server.database);
      resource->set_address(server.address);
      resource->set_user(server.user);
      resource->set_password_file(server.password_file);
      SetDuration(kOrphanAge, resource->mutable_orphan_age());
      status = api.Register(request);
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Teller::Connect() {
  for (size_t i = 0; i < kBankServers; ++i) {
    if (sessions_[i] != nullptr && !sessions_[i]->lost()) continue;
    sessions_[i].reset();
    absl::StatusOr<std::unique_ptr<BranchSession>> session = ConnectTo(config_->servers[i]);
    if (!session.ok()) return session.status();
    sessions_[i] = *std::move(session);
  }
  return absl::OkStatus();
}

JournalEntry Teller::Transfer(const TransferRequest& request) {
  JournalEntry nothing_done;
  nothing_done.transfer = request.id;
  nothing_done.told = Told::kRolledBack;
  if (absl::Status status = Connect(); !status.ok()) {
    nothing_done.why = ToText(status);
    return nothing_done;
  }
  BeginOptions begin;
  begin.sole_participant = IsSole(request);
  if (!begin.sole_participant) {
    for (const BankServer& server : config_->servers) begin.resources.push_back(server.resource);
  }
  absl::StatusOr<GlobalTransaction> transaction = client_->Begin(begin);
  if (!transaction.ok()) {
    nothing_done.why = ToText(transaction.status());
    return nothing_done;
  }
  // Always in the same order of servers, and one row on each: so transfers cannot deadlock across servers.
  absl::Status status = DoPart(request, 0, FailHalfWay::kNo, &*transaction);
  if (status.ok()) status = DoPart(request, 1, request.fail, &*transaction);
  if (request.fail == FailHalfWay::kLeaveScope && status.ok()) {
    nothing_done.gtrid = transaction->gtrid();
    nothing_done.why = "left its scope";
    return nothing_done;
  }
  if (request.fail == FailHalfWay::kRollback && status.ok()) {
    status = transaction->Rollback("the application changed its mind");
    return Conclude(request, *transaction, status.ok() ? absl::AbortedError("Rollback was called") : status);
  }
  // Also after an error: a branch that is poisoned must not be able to commit.
  return Conclude(request, *transaction, transaction->Commit());
}

absl::Status Teller::DoPart(const TransferRequest& request, int server, FailHalfWay fail,
                            GlobalTransaction* transaction) {
  if (fail == FailHalfWay::kRollback || fail == FailHalfWay::kLeaveScope) return absl::OkStatus();
  const BankServer& place = config_->servers[static_cast<size_t>(server)];
  BranchSession* const session = sessions_[static_cast<size_t>(server)].get();
  const bool takes = ServerOf(request.from) == server;
  const int64_t account = takes ? request.from : request.to;
  const int64_t amount = fail == FailHalfWay::kOverdraft ? -kAbsurdAmount : takes ? -request.amount : request.amount;
  const std::string entry = absl::StrFormat(";INSERT INTO bank.ledger VALUES (%d, %d, %d, '%s')", request.id, account,
                                            amount, transaction->gtrid());
  const absl::StatusOr<Branch*> branch = transaction->OpenBranch(place.resource, session);
  if (!branch.ok()) return branch.status();
  const absl::Status status =
      (*branch)
          ->Execute(absl::StrFormat("UPDATE bank.accounts SET balance = balance + (%d) WHERE id = %d%s%s", amount,
                                    account, entry, fail == FailHalfWay::kDuplicateKey ? entry : ""))
          .status();
  if (!status.ok() || fail != FailHalfWay::kLoseSession) return status;
  const absl::StatusOr<std::unique_ptr<BranchSession>> admin = ConnectTo(place);
  if (!admin.ok()) return admin.status();
  const uint64_t id = session->connection_id();
  absl::Status killed = Check((*admin)->Query(KillSql(*session, place.engine)), "cannot kill");
  // Until it is gone, so that the outcome is that of a lost session and not that of a race.
  while (killed.ok()) {
    const QueryResult alive = (*admin)->Query(SessionSql(id, place.engine));
    if (alive.rows().empty()) return StatusOf(alive.error, "cannot look for the killed session");
    absl::SleepFor(absl::Milliseconds(2));
  }
  return killed;
}

JournalEntry Teller::Conclude(const TransferRequest& request, const GlobalTransaction& transaction,
                              const absl::Status& answer) {
  JournalEntry entry;
  entry.transfer = request.id;
  entry.gtrid = transaction.gtrid();
  if (answer.ok()) {
    entry.told = Told::kCommitted;
    return entry;
  }
  // ABORTED is the one answer that means "rolled back"; everything else leaves it open.
  entry.told = absl::IsAborted(answer) ? Told::kRolledBack : Told::kInDoubt;
  entry.why = ToText(answer);
  return entry;
}

absl::Status RunWorkload(const BankConfig& config, const WorkloadOptions& options, const std::string& journal_path) {
  absl::StatusOr<std::unique_ptr<JournalWriter>> journal = JournalWriter::Open(journal_path);
  if (!journal.ok()) return journal.status();
  Client client(config.coordinator);
  Teller teller(&config, &client);
  std::mt19937_64 random(options.seed);
  const int64_t pairs = config.accounts / kBankServers;
  for (int64_t id = options.first_id; id <= options.last_id; id += options.stride) {
    if (options.stop != nullptr && *options.stop) break;
    const auto any = [&random](int64_t below) { return std::uniform_int_distribution<int64_t>(0, below - 1)(random); };
    TransferRequest request;
    request.id = id;
    request.from = any(pairs) * kBankServers;
    request.to = any(pairs) * kBankServers + 1;
    if (any(2) == 0) std::swap(request.from, request.to);
    request.amount = 1 + any(kMaxAmount);
    if (std::bernoulli_distribution(options.fail_fraction)(random)) {
      request.fail = kAllFailures[any(static_cast<int64_t>(std::size(kAllFailures)))];
    }
    const JournalEntry entry = teller.Transfer(request);
    if (options.on_told) options.on_told(entry);
    if (entry.gtrid.empty()) absl::SleepFor(kNothingBegunPause);
    if (absl::Status status = (*journal)->Append(entry); !status.ok()) return status;
  }
  if (!client.Flush(kFlushPatience)) {
    return absl::UnavailableError("the coordinator could not be told how all branches ended");
  }
  return absl::OkStatus();
}

}  // namespace assent
