// SessionGuard: knows whether a connection is still the session that a branch was started on.
//
// mysql_reset_connection, mysql_change_user, a silent reconnect or a proxy that hands the statements to another
// connection all give the branch up without a word. Whoever then sends XA COMMIT or XA ROLLBACK for a prepared branch
// is told OK by MariaDB, and nothing is done: so the question must be asked before, and in the same batch, which stops
// at the first error. The mark is a user variable of the session with a number of its own for every branch; all of the
// above forget it. It costs one small statement in front of what finishes, which leaves the mark of the next branch
// behind; the first branch of a session needs another one in the batch of XA START. PREPARE asks within the statement
// that leaves the witness. No round trip.
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

  // A new branch is about to start on the connection. True: MarkSql must run first; false: the last check of the
  // branch before has left a mark, and the connection is untouched since. (If it was reset where the library cannot
  // see it, the check of the new branch fails, and the branch with it.)
  bool Arm(st_mysql* mysql);
  // Since Arm. No system call.
  Handle Look() const;

  // Goes in front of XA START.
  std::string MarkSql() const;
  // Goes in front of what must only run on the marked session, and marks it anew. Fails with IsRefusal() on any other;
  // allowed in every state of a branch. If it succeeds Passed must be told; if not it may be sent again.
  std::string CheckSql();
  void Passed();
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
  uint64_t mark_ = 0;       // What the session has as its mark, or next_.
  uint64_t next_ = 0;       // Sent with CheckSql, which was not answered yet; 0: none.
  bool left_mark_ = false;  // mark_ was left by CheckSql, and no branch has begun since.
};

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_SESSION_GUARD_H_
