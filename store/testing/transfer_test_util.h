// What the tests and the benchmark of moving a store share: records as a coordinator makes them.
#ifndef ASSENT_STORE_TESTING_TRANSFER_TEST_UTIL_H_
#define ASSENT_STORE_TESTING_TRANSFER_TEST_UTIL_H_

#include <memory>
#include <string>
#include <vector>

#include "store/store.h"

namespace assent {

// A transaction with two branches and its history; every seventh is ACTIVE, every eleventh COMMITTING, every
// thirteenth HEURISTIC, the rest COMMITTED or ROLLED_BACK. No two are the same.
GlobalPtr MakeHistory(int i);

// Writes MakeHistory(first) and on.
void FillWithHistory(Store* store, int first, int count);

// All transactions, oldest first, each as its bytes.
std::vector<std::string> AllRecords(Store* store);

}  // namespace assent

#endif  // ASSENT_STORE_TESTING_TRANSFER_TEST_UTIL_H_
