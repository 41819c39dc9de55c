// MariaDbConnection: one connection to a MariaDB server, as both the store and the sessions of branches use it.
//
// A batch of statements is sent with Send and its answers are read with Receive, so that one thread can send to many
// connections before it waits for any. After a Send the answer is due: Receive must be next (anything else is a
// programming error and dies). A Send never fails and never waits for the server; what goes wrong is in the answer.
// There is no automatic reconnect.
#ifndef ASSENT_MARIADB_CONNECTION_H_
#define ASSENT_MARIADB_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "base/connect_options.h"
#include "base/db_error.h"
#include "base/query_result.h"

struct st_mysql;  // Connector/C's MYSQL.

namespace assent {

// Thread-compatible: one thread at a time.
class MariaDbConnection {
 public:
  // Connects with multi-statements, utf8mb4 and only such ways to prove the password that never show it to somebody who
  // poses as the server. (MySQL's caching_sha2_password does not show it over TLS with verification, a Unix socket or a
  // loopback address; elsewhere it is refused, and the message says what to do.)
  // DATABASE_UNREACHABLE (also if TLS is required and the server has none) or, if the server refuses, DATABASE_ERROR
  // with its error.
  static absl::StatusOr<std::unique_ptr<MariaDbConnection>> Connect(const ConnectOptions& options);
  // Uses a connection that somebody else owns. Switches on multi-statements, and Connector/C's reconnect off.
  static absl::StatusOr<std::unique_ptr<MariaDbConnection>> Adopt(st_mysql* handle);

  // Closes an owned connection; an adopted one stays open.
  ~MariaDbConnection() { Close(); }
  MariaDbConnection(const MariaDbConnection&) = delete;
  MariaDbConnection& operator=(const MariaDbConnection&) = delete;

  void Send(absl::string_view sql);
  QueryResult Receive();
  QueryResult Query(absl::string_view sql);
  // True if the last Send put something on the wire; false: the server certainly saw nothing of it.
  bool sent() const { return sent_; }

  // The server's id of this connection, as in its process list.
  uint64_t id() const { return id_; }
  // True once the connection cannot be used any more. All later queries answer LostError.
  bool lost() const { return lost_; }
  void MarkLost() { lost_ = true; }
  // Closes an owned connection or lets go of an adopted one, whatever is due; lost() from then on.
  void Close();
  // Ends the connection at the server, so that nobody can use it any more: closes an owned one, shuts an adopted one
  // down; lost() from then on.
  void Shutdown();
  // Its owner has closed the adopted connection: the handle must not be touched any more; lost() from then on.
  void Forget();
  // True if the server has closed the connection and nothing was noticed yet. One system call.
  bool PeerHasClosed() const;
  // As of the server's last answer that was not an error.
  bool InTransaction() const;
  int Socket() const;
  // Batches sent; each has one answer.
  int64_t round_trips() const { return round_trips_; }
  // Null after Close.
  st_mysql* handle() { return mysql_; }

  static DbError LostError();

 private:
  MariaDbConnection(st_mysql* mysql, bool owned) : mysql_(mysql), owned_(owned) {}
  // Reads one statement's answer; false on error (in *error).
  bool ReceiveOne(ResultSet* result, DbError* error);
  DbError TakeError();

  st_mysql* mysql_;
  const bool owned_;
  uint64_t id_ = 0;
  bool lost_ = false;
  bool answer_due_ = false;
  bool sent_ = false;
  int64_t round_trips_ = 0;
};

}  // namespace assent

#endif  // ASSENT_MARIADB_CONNECTION_H_
