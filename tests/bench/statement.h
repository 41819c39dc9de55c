// The one statement that every contender runs on each server.
#ifndef ASSENT_TESTS_BENCH_STATEMENT_H_
#define ASSENT_TESTS_BENCH_STATEMENT_H_

#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/bank/bank.h"

namespace assent {

constexpr int kMaxBenchWorkers = 64;
constexpr int kRowsOfAWorker = 50;
constexpr int kBenchAccounts = kMaxBenchWorkers * kRowsOfAWorker * kBankServers;

// On a row that is this worker's alone: branches that begin at the same time on two servers could block each other for
// good, each holding what the other waits for.
inline std::string BenchStatement(size_t server, int worker, std::mt19937_64* random) {
  const int row = std::uniform_int_distribution<int>(0, kRowsOfAWorker - 1)(*random) * kMaxBenchWorkers + worker;
  const int account = row * kBankServers + static_cast<int>(server);
  return absl::StrCat("UPDATE bank.accounts SET balance = balance + 1 WHERE id = ", account);
}

}  // namespace assent

#endif  // ASSENT_TESTS_BENCH_STATEMENT_H_
