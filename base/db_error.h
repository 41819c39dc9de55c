// DbError: what a database, or its client library, answers when it refuses.
#ifndef ASSENT_BASE_DB_ERROR_H_
#define ASSENT_BASE_DB_ERROR_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace assent {

// Assent's own numbers in DbError.code, beside the database's. The connection is not the session any more that a branch
// was started on.
constexpr int kSessionResetCode = -1;
// The connection is lost, where the client library has no number that says so (libpq).
constexpr int kConnectionLostCode = -2;

// A database's own error. The message may quote row contents ("Duplicate entry 'x'"): it is for the application that
// asked, not for logs and not for the coordinator's store.
struct DbError {
  // The database's number (MariaDB, MySQL), or one of Assent's own. 0: no error, or (with a message) one that has no
  // number: PostgreSQL's, which has a SQLSTATE, or one that Assent itself found before anything was sent.
  int code = 0;
  std::string sqlstate;  // Five characters, or empty.
  std::string message;

  bool ok() const { return code == 0 && message.empty(); }
};

// True for errors after which a connection cannot be used any more: kConnectionLostCode, Connector/C's own (the
// connection broke, timed out or is out of step) and the server's farewells (killed, shutdown).
bool IsConnectionLost(int code);

// The error in one sentence that begins with what was being done.
std::string Describe(absl::string_view doing, const DbError& error);
// `error_code` and `sqlstate`, as far as they are the database's.
std::map<std::string, std::string> MetadataOf(const DbError& error);
// The error as a status: DATABASE_UNREACHABLE if the connection is lost, SESSION_RESET for kSessionResetCode, else
// DATABASE_ERROR; metadata `error_code` and `sqlstate`, if they are the database's. `doing` says what was being done
// and begins the message. OK if the error is ok().
absl::Status StatusOf(const DbError& error, absl::string_view doing);

}  // namespace assent

#endif  // ASSENT_BASE_DB_ERROR_H_
