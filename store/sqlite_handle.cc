#include "store/sqlite_handle.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"

namespace assent {
namespace {

Reason ReasonOfCode(int code) {
  switch (code & 0xff) {
    case SQLITE_FULL: return Reason::STORE_FULL;
    case SQLITE_READONLY: return Reason::STORE_READ_ONLY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return Reason::STORE_CORRUPT;
    default: return Reason::STORE_UNAVAILABLE;
  }
}

absl::string_view Remedy(int code) {
  switch (code & 0xff) {
    case SQLITE_FULL: return "; make room on the disk, nothing needs to be restarted";
    case SQLITE_READONLY: return "; make the file and its folder writable";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return "; restore the file from a copy, or move it away to begin with an empty store";
    case SQLITE_BUSY: return "; another program has the file open for writing";
    default: return "";
  }
}

}  // namespace

absl::Status SqliteError(int code, sqlite3* db, absl::string_view doing) {
  std::string message = absl::StrCat("SQLite: cannot ", doing, ": ", sqlite3_errstr(code), " (code ", code, ")");
  if (db != nullptr) {
    const int system_error = sqlite3_system_errno(db);
    // The number stays from the last failing system call, so it is only worth showing for errors that stem from one.
    const bool from_system = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN;
    if (from_system && system_error != 0) absl::StrAppend(&message, ", ", strerror(system_error));
  }
  absl::StrAppend(&message, Remedy(code));
  return MakeError(ReasonOfCode(code), message, {{"sqlite_code", absl::StrCat(code)}});
}

void SqliteStatement::BindText(int index, absl::string_view text) {
  sqlite3_bind_text64(statement_.get(), index, text.empty() ? "" : text.data(), text.size(), SQLITE_STATIC,
                      SQLITE_UTF8);
}

void SqliteStatement::BindBlob(int index, absl::string_view bytes) {
  sqlite3_bind_blob64(statement_.get(), index, bytes.empty() ? "" : bytes.data(), bytes.size(), SQLITE_STATIC);
}

int SqliteStatement::Run() {
  const int code = Step();
  Reset();
  return code;
}

std::string SqliteStatement::ColumnBytes(int index) {
  // The pointer first: it may convert the value, after which the length is right.
  const void* const bytes = sqlite3_column_blob(statement_.get(), index);
  const int size = sqlite3_column_bytes(statement_.get(), index);
  return bytes == nullptr ? std::string() : std::string(static_cast<const char*>(bytes), size);
}

absl::StatusOr<SqliteConnection> SqliteConnection::Open(const std::string& path, const std::string& vfs) {
  sqlite3* db = nullptr;
  // NOMUTEX: our own threads take turns, so SQLite's lock per call would only cost time.
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(path.c_str(), &db, flags, vfs.empty() ? nullptr : vfs.c_str());
  SqliteConnection connection;
  connection.db_.reset(db);  // Even a failed open may hand out a handle that must be closed.
  if (code != SQLITE_OK) return SqliteError(code, db, absl::StrCat("open '", path, "'"));
  return connection;
}

absl::Status SqliteConnection::Execute(const std::string& sql, absl::string_view doing) {
  const int code = Exec(sql.c_str());
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, doing);
}

absl::StatusOr<SqliteStatement> SqliteConnection::Prepare(absl::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(get(), sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                                      &statement, nullptr);
  if (code != SQLITE_OK) return Error(code, absl::StrCat("prepare '", sql, "'"));
  return SqliteStatement(statement);
}

absl::StatusOr<int64_t> SqliteConnection::QueryInt(absl::string_view sql) {
  absl::StatusOr<SqliteStatement> statement = Prepare(sql);
  if (!statement.ok()) return statement.status();
  const int code = statement->Step();
  if (code != SQLITE_ROW) return Error(code, absl::StrCat("run '", sql, "'"));
  return statement->ColumnInt(0);
}

absl::StatusOr<std::string> SqliteConnection::QueryText(absl::string_view sql) {
  absl::StatusOr<SqliteStatement> statement = Prepare(sql);
  if (!statement.ok()) return statement.status();
  const int code = statement->Step();
  if (code != SQLITE_ROW) return Error(code, absl::StrCat("run '", sql, "'"));
  return statement->ColumnBytes(0);
}

}  // namespace assent
