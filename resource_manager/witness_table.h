// WitnessTable: the name of a witness table, read once and then safe to put into SQL.
//
// The witness is one row (gtrid, bqual) that a branch inserts into a table on its own server before XA PREPARE: visible
// exactly when the branch committed. It is the one proof of a commit that outlives the session (witness.h).
#ifndef ASSENT_RESOURCE_MANAGER_WITNESS_TABLE_H_
#define ASSENT_RESOURCE_MANAGER_WITNESS_TABLE_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/xid.h"

namespace assent {

constexpr absl::string_view kDefaultWitnessSchema = "assent";
constexpr absl::string_view kWitnessTableName = "witness";

// The ids of the row that a branch leaves. One that is committed in one phase (XA COMMIT … ONE PHASE, without PREPARE)
// has a `!` behind the bqual, which no branch's own has: so that row is proof that its transaction was committed by its
// participant, where a prepared branch's may have been left by whoever committed that one by hand. The xid's bqual: at
// most 63 bytes.
Xid WitnessOf(const Xid& branch, bool one_phase);
bool IsOnePhaseWitness(const Xid& witness);
// The branch of such a row.
Xid BranchOfOnePhase(const Xid& witness);

// A value.
class WitnessTable {
 public:
  // Reads `schema.table` (Branch.witness_table); each part 1 to 64 bytes of [A-Za-z0-9_$-]. INVALID_FIELD, metadata
  // `field` = `witness_table`.
  static absl::StatusOr<WitnessTable> Parse(absl::string_view name);
  // The witness table of a schema (Resource.witness_schema; empty: the default). INVALID_FIELD, metadata `field` =
  // `witness_schema`.
  static absl::StatusOr<WitnessTable> OfSchema(absl::string_view schema);

  const std::string& schema() const { return schema_; }
  const std::string& table() const { return table_; }
  // `schema.table`: what Parse reads.
  std::string name() const;
  // Quoted for SQL.
  std::string quoted() const;
  // The statement that leaves the witness of a valid xid, or the one-phase witness of one.
  std::string InsertSql(const Xid& xid) const;
  // The same, with the bqual's literal as `wrap` turns it into another expression of the same value.
  std::string InsertSql(const Xid& xid, const std::function<std::string(absl::string_view)>& wrap) const;
  // The same, but does nothing if it is there; also for the row with empty ids (see witness.h).
  std::string InsertIgnoreSql(const Xid& xid) const;
  // What it means that the server refuses InsertSql with this error code, and what to do, where that is known.
  std::string WhyRefused(int error_code) const;

 private:
  WitnessTable(absl::string_view schema, absl::string_view table) : schema_(schema), table_(table) {}

  std::string schema_;
  std::string table_;
};

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_WITNESS_TABLE_H_
