// The bank's checker: what must hold once nobody works any more, whatever happened meanwhile.
#ifndef ASSENT_TESTS_BANK_CHECKER_H_
#define ASSENT_TESTS_BANK_CHECKER_H_

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/bank/bank.h"
#include "tests/bank/journal.h"

namespace assent {

// One thing that was looked at: how much of it, and what was wrong.
struct CheckLine {
  std::string what;    // For people, e.g. "sum of all balances".
  std::string detail;  // What was found, e.g. "1,000,000 of 1,000,000".
  // Empty: it holds. At most kMaxViolationsShown are spelt out; `count` has the number.
  std::vector<std::string> violations;
  int64_t count = 0;
};

constexpr size_t kMaxViolationsShown = 10;

struct BankReport {
  std::vector<CheckLine> checks;
  int64_t committed = 0;  // What callers were told.
  int64_t rolled_back = 0;
  int64_t in_doubt = 0;
  int64_t violations = 0;  // Over all checks.
};

struct CheckOptions {
  bool may_be_in_doubt = false;
  // Global transactions at the coordinator that are not the bank's.
  std::set<std::string> foreign;
};

// Looks at both databases, at the coordinator and at what callers were told:
//   - the sum of all balances is what it was;
//   - each account's balance is its initial one plus its ledger rows;
//   - each transfer has its ledger row on both servers, adding up to zero and of one gtrid, or on neither;
//   - told COMMITTED: on both; told ROLLED_BACK: on neither; in doubt or told nothing: as above;
//   - no caller was left in doubt, unless that is allowed;
//   - nothing is prepared on either server (XA RECOVER), once recovery has had a minute for what is on no record;
//   - the coordinator says COMMITTED of exactly those whose rows are there, and nothing is unfinished;
//   - no witness row is there without a decision to COMMIT.
// `journal`: the entries of all callers. An error means that something could not be looked at.
absl::StatusOr<BankReport> CheckBank(const BankConfig& config, const std::vector<JournalEntry>& journal,
                                     const CheckOptions& options = {});

}  // namespace assent

#endif  // ASSENT_TESTS_BANK_CHECKER_H_
