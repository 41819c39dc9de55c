// PostgresConnection: one connection to a PostgreSQL server.
//
// A message of one or more statements is sent with Send and its answers are read with Receive, so that one thread can
// send to many connections before it waits for any. After a Send the answer is due: Receive must be next (anything else
// is a programming error and dies). A Send never fails and never waits for the server; what goes wrong is in the
// answer. There is no automatic reconnect.
//
// Errors have code 0 and a SQLSTATE; a lost connection has kConnectionLostCode (db_error.h).
#ifndef ASSENT_POSTGRES_CONNECTION_H_
#define ASSENT_POSTGRES_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/connect_options.h"
#include "base/query_result.h"

struct pg_conn;    // libpq's PGconn.
struct pg_result;  // libpq's PGresult.

namespace assent {

// Thread-compatible: one thread at a time.
class PostgresConnection {
 public:
  // The server's own word on where the session stands, as of its last answer.
  enum class Transaction {
    kNone,    // Outside of any transaction.
    kOpen,    // In one.
    kFailed,  // In one that a statement has failed in.
    kUnknown,
  };

  // Connects. An address `unix:` is the folder of the socket, or the socket itself (…/.s.PGSQL.5432).
  // DATABASE_UNREACHABLE (also if TLS is required and the server has none) or, if the server refuses, DATABASE_ERROR
  // with its SQLSTATE.
  static absl::StatusOr<std::unique_ptr<PostgresConnection>> Connect(const ConnectOptions& options);
  // Uses a connection that somebody else owns, and that waits for nothing.
  static absl::StatusOr<std::unique_ptr<PostgresConnection>> Adopt(pg_conn* handle);

  // Closes an owned connection; an adopted one stays open.
  ~PostgresConnection() { Close(); }
  PostgresConnection(const PostgresConnection&) = delete;
  PostgresConnection& operator=(const PostgresConnection&) = delete;

  // Several statements are separated by semicolons; outside of a transaction they are one by themselves. COPY is
  // refused, and so is a NUL byte, behind which the server would not see what follows: nothing is sent then.
  void Send(absl::string_view sql);
  QueryResult Receive();
  QueryResult Query(absl::string_view sql);
  // True if the last Send put something on the wire; false: the server certainly saw nothing of it.
  bool sent() const { return sent_; }

  // True once the connection cannot be used any more. All later queries answer LostError.
  bool lost() const { return lost_; }
  void MarkLost() { lost_ = true; }
  // Closes an owned connection or lets go of an adopted one, whatever is due; lost() from then on.
  void Close();
  // Ends the connection at the server, so that nobody can use it any more: closes an owned one, shuts an adopted one
  // down; lost() from then on.
  void Shutdown();
  // True if the server has closed the connection and nothing was noticed yet. One system call.
  bool PeerHasClosed() const;
  Transaction transaction() const;
  int Socket() const;
  // The process id that the connection was given when it was made; behind a pooler not the server's.
  int HandshakePid() const;
  // Messages sent; each has one answer.
  int64_t round_trips() const { return round_trips_; }
  // Null after Close.
  pg_conn* handle() { return conn_; }

  static DbError LostError();

 private:
  PostgresConnection(pg_conn* conn, bool owned, absl::Duration read_timeout)
      : conn_(conn), owned_(owned), read_timeout_(read_timeout) {}
  // Waits until the next result can be read without blocking; false: the connection broke, or no answer came in time.
  bool AwaitResult();
  // Reads one statement's answer.
  void TakeResult(pg_result* result, QueryResult* answer);

  pg_conn* conn_;
  const bool owned_;
  const absl::Duration read_timeout_;
  bool lost_ = false;
  bool answer_due_ = false;
  bool sent_ = false;
  bool has_nul_ = false;  // What was to be sent.
  int64_t round_trips_ = 0;
};

// Text as a literal, with its quotes, whatever standard_conforming_strings is. NUL ends it: PostgreSQL has none in
// text.
std::string QuoteLiteral(absl::string_view text);
// A name as an identifier, with its quotes.
std::string QuoteIdentifier(absl::string_view name);

}  // namespace assent

#endif  // ASSENT_POSTGRES_CONNECTION_H_
