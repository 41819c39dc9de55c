// The store's connections: how one is set up, made again after a loss, and what its errors mean to the store.
#ifndef ASSENT_STORE_MARIADB_LINK_H_
#define ASSENT_STORE_MARIADB_LINK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "mariadb/connection.h"
#include "store/mariadb_options.h"
#include "store/record.h"

namespace assent {

// A write of one's own: what was read before it is forced when it is (law S6).
constexpr absl::string_view kBarrierSql = "UPDATE store_meta SET number=number+1 WHERE name='barrier'";

// Runs it. STORE_CORRUPT's error if it changes no row, because then nothing was written, and nothing is forced.
DbError WriteBarrier(MariaDbConnection* connection);
// That error, for those who send kBarrierSql along with other statements.
DbError NoBarrierError();

// Answers the horizon (horizon.h) as it is committed in this moment.
constexpr absl::string_view kHorizonSql = "SELECT number FROM store_meta WHERE name='horizon'";
// That there is none: an operator has deleted the row.
DbError NoHorizonError();

// Of a row of store_heartbeats: its instance has been silent for longer than its lease.
constexpr absl::string_view kOverdueSql = "seen + INTERVAL lease_us MICROSECOND < NOW(6)";

// Forces what was read before on this connection: with a write of its own; where the server has no room for one, or
// takes none, by waiting until its log is flushed as far as it is written.
DbError ForceWhatWasRead(MariaDbConnection* connection);

// MariaDB's error numbers that the store acts on; named as in its mysqld_error.h.
constexpr int kErDupEntry = 1062;
constexpr int kErBadDb = 1049;
constexpr int kErNoSuchTable = 1146;

// A database's refusal as the store's: STORE_UNAVAILABLE, STORE_FULL, STORE_READ_ONLY, STORE_UNFIT (rights) or
// STORE_CORRUPT (the tables are not what they were made as); says what to do. OK if the error is.
absl::Status StoreError(const DbError& error, absl::string_view doing);
// True if the database asks for the whole transaction to be repeated: a deadlock, or a lock that came too late.
bool IsContention(int code);

// `text` as an SQL literal of bytes.
std::string Quote(absl::string_view text);
// The column of a row as a number, or as text; 0 or "" for NULL.
int64_t IntOf(const absl::optional<std::string>& column);
// A row of `gtrid, revision, record`.
StoredRecord StoredOf(const std::vector<absl::optional<std::string>>& row);
std::string TextOf(const absl::optional<std::string>& column);

// A connection with the session that the store needs, whatever the server's defaults: READ COMMITTED, strict, bytes as
// they are, UTC, autocommit; and a bound on how long a transaction may idle with its locks. Not in any database yet if
// `database` is false.
absl::StatusOr<std::unique_ptr<MariaDbConnection>> ConnectToStore(const MariaDbOptions& options, bool database);

// When to try again: after a failure not before a pause that doubles up to a cap, jittered. Not thread-safe.
class Backoff {
 public:
  // False: it is too early, answer what was wrong the last time.
  bool MayTry() const { return absl::Now() >= next_; }
  void Failed();
  void Succeeded() { pause_ = absl::ZeroDuration(); }

 private:
  absl::Duration pause_;
  absl::Time next_ = absl::InfinitePast();
  std::minstd_rand random_{std::random_device()()};
};

// A few connections for everything but the transitions. Thread-safe.
class MariaDbPool {
 public:
  // Connects no sooner than needed. A server that answers with another store id is refused.
  MariaDbPool(MariaDbOptions options, std::string store_id);

  // Runs `body` with a connection; waits for one if all are in use. A body whose connection turns out to be lost, or
  // that met contention, is run again on a good one, so it must be repeatable; if it opened a transaction and did not
  // end it, that is rolled back. Other errors are StoreError's.
  absl::Status Run(absl::string_view doing, const std::function<DbError(MariaDbConnection*)>& body);

 private:
  absl::StatusOr<std::unique_ptr<MariaDbConnection>> Take();
  void Give(std::unique_ptr<MariaDbConnection> connection);

  const MariaDbOptions options_;
  const std::string store_id_;

  Mutex mu_;
  CondVar given_;
  std::vector<std::unique_ptr<MariaDbConnection>> idle_ ABSL_GUARDED_BY(mu_);
  int used_ ABSL_GUARDED_BY(mu_) = 0;
  Backoff backoff_ ABSL_GUARDED_BY(mu_);
  absl::Status last_error_ ABSL_GUARDED_BY(mu_);
};

// Makes sure that whatever the connection that holds the server's lock `name` had in flight is committed or rolled
// back: ends that connection, and waits until it is gone. With `take` this connection holds the lock afterwards.
//
// The server releases a user lock of a dead connection only after it has rolled back its transaction, and a connection
// that is in the middle of COMMIT does not die before that is done.
DbError EndHolder(MariaDbConnection* connection, absl::string_view name, bool take);

// OK if the server behind the connection can be written to and has the store `store_id`.
absl::Status CheckStoreId(MariaDbConnection* connection, const std::string& store_id);

}  // namespace assent

#endif  // ASSENT_STORE_MARIADB_LINK_H_
