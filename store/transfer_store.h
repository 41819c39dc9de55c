// What exporting, importing and verifying share: reading a store in order of creation, comparing it with a file, and
// making sure that nobody else works on it. Internal to transfer.h.
#ifndef ASSENT_STORE_TRANSFER_STORE_H_
#define ASSENT_STORE_TRANSFER_STORE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/store.h"
#include "store/transfer.h"
#include "store/transfer_file.h"

namespace assent {

// All transactions, oldest first, a page at a time. Not thread-safe.
class StoreCursor {
 public:
  explicit StoreCursor(Store* store) : store_(store) {}
  // The present one, until Advance; null behind the last one.
  absl::StatusOr<GlobalPtr> Peek();
  void Advance() { ++index_; }

 private:
  Store* const store_;
  std::vector<GlobalPtr> page_;
  std::string token_;
  size_t index_ = 0;
  bool last_page_ = false;
};

// That nobody else works on a store, from the beginning to Check.
class StoreAlone {
 public:
  // STORE_LOCKED, naming the instances, if one lives.
  static absl::StatusOr<StoreAlone> Begin(Store* store);
  // The same, also if one has lived in between.
  absl::Status Check(Store* store) const;

 private:
  std::vector<InstanceKey> instances_;
};

bool SameRecord(const google::protobuf::Message& a, const google::protobuf::Message& b);
// What is different, in a few words.
std::string DifferenceOf(const v1::Global& in_store, const v1::Global& in_file);

// Compares the rest of the file with the store. `progress` may be null.
absl::StatusOr<VerifyReport> CompareStore(Store* store, TransferReader* reader, const TransferProgress& progress);

}  // namespace assent

#endif  // ASSENT_STORE_TRANSFER_STORE_H_
