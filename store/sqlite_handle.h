// Small owners of SQLite's handles: a connection and a prepared statement, and the one translation of SQLite's result
// codes into Assent's errors. Not thread-safe: a connection and its statements belong to one thread at a time.
#ifndef ASSENT_STORE_SQLITE_HANDLE_H_
#define ASSENT_STORE_SQLITE_HANDLE_H_

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/record.h"

namespace assent {

// The error for a result code of SQLite: STORE_FULL, STORE_READ_ONLY, STORE_CORRUPT, or STORE_UNAVAILABLE for the rest.
// `doing` completes "SQLite: cannot …". `db` may be null; else its last error must be the one that `code` is.
absl::Status SqliteError(int code, sqlite3* db, absl::string_view doing);

// A prepared statement. Bound strings are not copied: they must live until Reset.
class SqliteStatement {
 public:
  SqliteStatement() = default;
  explicit SqliteStatement(sqlite3_stmt* statement) : statement_(statement) {}

  void BindInt(int index, int64_t value) { sqlite3_bind_int64(statement_.get(), index, value); }
  void BindText(int index, absl::string_view text);
  void BindBlob(int index, absl::string_view bytes);
  void BindNull(int index) { sqlite3_bind_null(statement_.get(), index); }

  // SQLITE_ROW, SQLITE_DONE, or an extended error code.
  int Step() { return sqlite3_step(statement_.get()); }
  // Ends the execution (and with it an implicit read transaction) and makes it ready for the next.
  void Reset() { sqlite3_reset(statement_.get()); }
  // Binds nothing, steps to the end, resets: for statements without rows. SQLITE_DONE or an extended error code.
  int Run();

  int64_t ColumnInt(int index) { return sqlite3_column_int64(statement_.get(), index); }
  // A copy of the bytes of a TEXT or BLOB column.
  std::string ColumnBytes(int index);

  sqlite3_stmt* get() { return statement_.get(); }

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

// Resets a statement at the end of a scope.
class StatementReset {
 public:
  explicit StatementReset(SqliteStatement* statement) : statement_(statement) {}
  ~StatementReset() { statement_->Reset(); }
  StatementReset(const StatementReset&) = delete;
  StatementReset& operator=(const StatementReset&) = delete;

 private:
  SqliteStatement* const statement_;
};

class SqliteConnection {
 public:
  SqliteConnection() = default;

  // Opens (and creates if need be) the file. An empty `vfs` is SQLite's default. SQLite reads nothing yet, so most
  // errors of the file show at the first statement.
  static absl::StatusOr<SqliteConnection> Open(const std::string& path, const std::string& vfs);

  // SQLITE_OK or an extended error code.
  int Exec(const char* sql) { return sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr); }
  absl::Status Execute(const std::string& sql, absl::string_view doing);
  absl::StatusOr<SqliteStatement> Prepare(absl::string_view sql);
  // The first column of the first row of a statement that has one.
  absl::StatusOr<int64_t> QueryInt(absl::string_view sql);
  absl::StatusOr<std::string> QueryText(absl::string_view sql);

  absl::Status Error(int code, absl::string_view doing) { return SqliteError(code, db_.get(), doing); }
  sqlite3* get() { return db_.get(); }

 private:
  struct Close {
    // _v2: statements may be finalised later than their connection is closed.
    void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
  };
  std::unique_ptr<sqlite3, Close> db_;
};

// Three columns from `index` on: gtrid, revision, record.
inline StoredRecord StoredOf(SqliteStatement* row, int index) {
  return {row->ColumnBytes(index), row->ColumnInt(index + 1), row->ColumnBytes(index + 2)};
}

}  // namespace assent

#endif  // ASSENT_STORE_SQLITE_HANDLE_H_
