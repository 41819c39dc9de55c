// The fence: how every write of a store object proves, inside its own transaction, that its instance still lives.
#ifndef ASSENT_STORE_MARIADB_FENCE_H_
#define ASSENT_STORE_MARIADB_FENCE_H_

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "base/errors.h"
#include "base/mutex.h"
#include "mariadb/connection.h"
#include "store/mariadb_link.h"
#include "store/membership.h"

namespace assent {

// Thread-safe.
class Fence {
 public:
  void Set(InstanceKey key) {
    MutexLock lock(&mu_);
    key_ = key;
  }
  absl::optional<InstanceKey> key() const {
    MutexLock lock(&mu_);
    return key_;
  }
  // A statement that answers one row if the instance lives, and keeps it from being declared dead until the transaction
  // ends. One row in any case before the first Join.
  std::string Sql() const {
    const absl::optional<InstanceKey> key = this->key();
    if (!key) return "SELECT 1";
    return absl::StrCat("SELECT 1 FROM store_instances WHERE id=", key->id, " AND epoch=", key->epoch,
                        " AND alive=1 LOCK IN SHARE MODE");
  }
  static bool Holds(const ResultSet& answer) { return answer.rows.size() == 1; }
  static absl::Status Fenced() {
    return MakeError(
        Reason::INSTANCE_FENCED,
        "this instance was declared dead and writes nothing any more: another one does its work; it has to "
        "join again");
  }

 private:
  mutable Mutex mu_;
  absl::optional<InstanceKey> key_ ABSL_GUARDED_BY(mu_);
};

}  // namespace assent

#endif  // ASSENT_STORE_MARIADB_FENCE_H_
