// The one statement that every contender runs on each server.
#ifndef ASSENT_TESTS_BENCH_STATEMENT_H_
#define ASSENT_TESTS_BENCH_STATEMENT_H_

#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/bank/bank.h"

namespace assent {

// Many more than workers, so that hardly any two meet.
constexpr int kBenchAccounts = 4000;

inline std::string BenchStatement(size_t server, std::mt19937_64* random) {
  const int account = std::uniform_int_distribution<int>(0, kBenchAccounts / kBankServers - 1)(*random) * kBankServers +
                      static_cast<int>(server);
  return absl::StrCat("UPDATE bank.accounts SET balance = balance + 1 WHERE id = ", account);
}

}  // namespace assent

#endif  // ASSENT_TESTS_BENCH_STATEMENT_H_
