#include "tools/demo_driver/shop.h"

#include <unistd.h>

#include <cstdio>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/errors.h"
#include "tools/demo_driver/show.h"

namespace assent {
namespace {

constexpr size_t kOrders = 0;
constexpr size_t kPayments = 1;

void Say(const std::string& worker, absl::string_view text) {
  absl::PrintF("      %s worker (process %d): %s\n", worker, getpid(), text);
  std::fflush(stdout);  // It may be killed.
}

// The part that both workers share: one branch on one server, in a transaction that somebody else began.
absl::Status RunWorker(const BankConfig& config, size_t server, const std::string& gtrid, const std::string& sql) {
  const BankServer& place = config.servers[server];
  const absl::StatusOr<std::unique_ptr<BranchSession>> session = ConnectTo(place);
  if (!session.ok()) return session.status();
  Client client(config.coordinator);
  absl::StatusOr<GlobalTransaction> transaction = client.Join(gtrid);
  if (!transaction.ok()) return transaction.status();
  const absl::StatusOr<Branch*> branch = transaction->OpenBranch(place.resource, session->get());
  absl::Status told = branch.status();
  if (branch.ok()) {
    Say(place.resource, sql);
    const absl::Status wrote = (*branch)->Execute(sql).status();
    Say(place.resource, wrote.ok() ? "done; XA PREPARE, then I vote and wait for the decision"
                                   : absl::StrCat("that failed: ", wrote.message(), "; I vote FAILED"));
    told = transaction->Prepare();
  }  // Else the other worker may have voted FAILED before this one began.
  Say(place.resource,
      told.ok() ? "COMMIT is decided; committed on the session that prepared" : absl::StrCat("told: ", told.message()));
  return told.ok() || absl::IsAborted(told) ? absl::OkStatus() : told;
}

}  // namespace

absl::Status SetUpShop(const BankConfig& config) {
  const char* const kSetUp[] = {
      "CREATE DATABASE shop; CREATE TABLE shop.orders (user INT, item VARCHAR(40), price INT)",
      "CREATE DATABASE shop; CREATE TABLE shop.payments (user INT, item VARCHAR(40), amount INT);"
      "CREATE TABLE shop.wallets (user INT PRIMARY KEY, balance INT,"
      " CONSTRAINT balance_not_negative CHECK (balance >= 0));"
      "INSERT INTO shop.wallets VALUES (1, 1000), (2, 50), (3, 1000), (6, 1000)"};
  for (size_t i = 0; i < kBankServers; ++i) {
    const absl::StatusOr<std::unique_ptr<BranchSession>> session = ConnectTo(config.servers[i]);
    if (!session.ok()) return session.status();
    const QueryResult result = (*session)->Query(kSetUp[i]);
    if (!result.ok()) return StatusOf(result.error, "cannot make the shop's tables");
  }
  return absl::OkStatus();
}

absl::Status RunOrdersWorker(const BankConfig& config, const std::string& gtrid, const Purchase& purchase) {
  return RunWorker(
      config, kOrders, gtrid,
      absl::StrFormat("INSERT INTO shop.orders VALUES (%d, '%s', %d)", purchase.user, purchase.item, purchase.price));
}

absl::Status RunPaymentsWorker(const BankConfig& config, const std::string& gtrid, const Purchase& purchase) {
  return RunWorker(config, kPayments, gtrid,
                   absl::StrFormat("UPDATE shop.wallets SET balance = balance - %d WHERE user = %d;"
                                   " INSERT INTO shop.payments VALUES (%d, '%s', %d)",
                                   purchase.price, purchase.user, purchase.user, purchase.item, purchase.price));
}

absl::StatusOr<bool> ShowShop(const BankConfig& config, const Purchase& purchase, bool bought) {
  const std::vector<std::pair<size_t, std::string>> questions = {
      {kOrders, absl::StrCat("SELECT * FROM shop.orders WHERE user = ", purchase.user)},
      {kPayments, absl::StrCat("SELECT * FROM shop.payments WHERE user = ", purchase.user)},
      {kPayments, absl::StrCat("SELECT * FROM shop.wallets WHERE user = ", purchase.user)}};
  bool as_expected = true;
  for (const auto& question : questions) {
    const absl::StatusOr<std::unique_ptr<BranchSession>> session = ConnectTo(config.servers[question.first]);
    if (!session.ok()) return session.status();
    const QueryResult result = (*session)->Query(question.second);
    ShowQuery(config.servers[question.first].resource, question.second, result);
    if (!result.ok()) return StatusOf(result.error, "cannot look at the shop");
    if (!absl::StrContains(question.second, "wallets")) as_expected &= result.rows().size() == (bought ? 1 : 0);
  }
  return as_expected;
}

}  // namespace assent
