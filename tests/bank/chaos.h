// Chaos: the bank at work while everything that takes part in it is killed, again and again: the coordinator, either
// database server, and the workers, each a process of its own. Whatever happens, the checker must find nothing.
#ifndef ASSENT_TESTS_BANK_CHAOS_H_
#define ASSENT_TESTS_BANK_CHAOS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/bank/bank.h"
#include "tests/bank/checker.h"
#include "tests/fixtures/databases.h"

namespace assent {

// A program that does what bank_worker.cc does, with the same arguments.
struct BankWorkerProgram {
  std::string language;
  std::string path;
};

struct ChaosOptions {
  absl::Duration duration = absl::Seconds(20);
  std::array<v1::Resource::Engine, kBankServers> engines = {EngineOfServer(0), EngineOfServer(1)};
  int workers = 8;
  // The workers' programs, by turns; none: bank_worker.cc.
  std::vector<BankWorkerProgram> programs;
  int64_t accounts = 200;
  uint64_t seed = 1;
  // How long what is left unfinished at the end may take.
  absl::Duration patience = absl::Minutes(2);
  // A line for people, now and then.
  std::function<void(const std::string&)> progress = [](const std::string&) {};
};

struct ChaosReport {
  BankReport bank;
  int64_t coordinator_kills = 0;
  int64_t database_kills = 0;
  int64_t worker_kills = 0;
  // By language.
  struct OfLanguage {
    int64_t kills = 0;
    int64_t committed = 0;
  };
  std::map<std::string, OfLanguage> languages;
};

// Blocks. An error: something could not be looked at, or did not finish in time.
absl::StatusOr<ChaosReport> RunChaos(const ChaosOptions& options);

// Every violation, one a line.
std::string TextOf(const BankReport& report);

}  // namespace assent

#endif  // ASSENT_TESTS_BANK_CHAOS_H_
