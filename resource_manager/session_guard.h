// SessionGuard: knows whether a connection is still the session that a branch was started on.
//
// mysql_reset_connection, mysql_change_user, a silent reconnect or a proxy that hands the statements to another
// connection all give the branch up without a word. Whoever then sends XA COMMIT or XA ROLLBACK for a prepared branch
// is told OK by MariaDB, and nothing is done: so the question must be asked before, and in the same batch, which stops
// at the first error. The mark is a user variable of the session with a number of its own for every branch; all of the
// above forget it. It costs one small statement in the batch of XA START and one in front of what finishes (PREPARE
// asks within the statement that leaves the witness), and no round trip. The mark is not kept from one branch to the
// next: between two of them a pool may do what it wants.
//
// What Connector/C itself did to the connection is seen without asking the server, also before a statement of the
// application that would otherwise run outside of any branch and commit by itself.
#ifndef ASSENT_RESOURCE_MANAGER_SESSION_GUARD_H_
#define ASSENT_RESOURCE_MANAGER_SESSION_GUARD_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

struct st_mysql;       // Connector/C's MYSQL.
struct st_mysql_stmt;  // Connector/C's MYSQL_STMT.

namespace assent {

// Thread-compatible.
class SessionGuard {
 public:
  enum class Handle {
    kUntouched,  // As far as the library knows.
    kReset,      // Reset, given to another user, or reconnected.
    kClosed,     // Closed by its owner: the handle must not be touched any more.
  };

  SessionGuard() = default;
  ~SessionGuard();
  SessionGuard(const SessionGuard&) = delete;
  SessionGuard& operator=(const SessionGuard&) = delete;

  // A new branch is about to start on the connection.
  void Arm(st_mysql* mysql);
  // Since Arm. No system call.
  Handle Look() const;

  // Goes in front of XA START.
  std::string MarkSql() const;
  // Goes in front of what must only run on the marked session. Fails with IsRefusal() on any other; allowed in every
  // state of a branch.
  std::string CheckSql() const;
  // The same, and answers an expression, which must be a number, in one row.
  std::string CheckSql(absl::string_view expression) const;
  // An expression: `value` on the marked session; fails with IsRefusal() on any other.
  std::string Checked(absl::string_view value) const;
  // True if this error of CheckSql means that the session is not the marked one.
  static bool IsRefusal(int error_code);

 private:
  st_mysql* mysql_ = nullptr;
  uint64_t connection_id_ = 0;
  // Never prepared, so the server does not know of it: the library invalidates every statement of a connection that it
  // resets or closes.
  st_mysql_stmt* sentinel_ = nullptr;
  uint64_t mark_ = 0;
};

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_SESSION_GUARD_H_
