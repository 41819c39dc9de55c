#include "postgres/connection.h"

#include <glog/logging.h>
#include <poll.h>
#include <postgresql/libpq-fe.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "base/errors.h"

namespace assent {
namespace {

constexpr char kSocketName[] = "/.s.PGSQL.";
constexpr int kDefaultPort = 5432;

// What libpq says ends with a line break.
std::string Trimmed(const char* text) { return std::string(absl::StripAsciiWhitespace(text == nullptr ? "" : text)); }

std::string FieldOf(const PGresult* result, int field) {
  const char* const text = PQresultErrorField(result, field);
  return text == nullptr ? "" : text;
}

DbError ErrorOf(const PGresult* result) {
  DbError error{0, FieldOf(result, PG_DIAG_SQLSTATE), FieldOf(result, PG_DIAG_MESSAGE_PRIMARY)};
  if (const std::string detail = FieldOf(result, PG_DIAG_MESSAGE_DETAIL); !detail.empty()) {
    absl::StrAppend(&error.message, " (", detail, ")");
  }
  if (error.message.empty()) error.message = Trimmed(PQresultErrorMessage(result));
  if (error.message.empty()) error.message = "unknown error";
  const std::string severity = FieldOf(result, PG_DIAG_SEVERITY_NONLOCALIZED);
  if (severity == "FATAL" || severity == "PANIC") error.code = kConnectionLostCode;
  return error;
}

void Ignore(void*, const PGresult*) {}

// The keywords of libpq and their values.
struct Parameters {
  std::vector<const char*> keywords;
  std::vector<std::string> texts;
  void Add(const char* keyword, std::string value) {
    keywords.push_back(keyword);
    texts.push_back(std::move(value));
  }
};

void AddTls(const ConnectTls& tls, Parameters* parameters) {
  if (!tls.required) return parameters->Add("sslmode", "disable");
  parameters->Add("sslmode", tls.verify ? "verify-full" : "require");
  if (!tls.ca.empty()) parameters->Add("sslrootcert", tls.ca);
  if (!tls.cert.empty()) parameters->Add("sslcert", tls.cert);
  if (!tls.key.empty()) parameters->Add("sslkey", tls.key);
}

void AddAddress(const Address& address, Parameters* parameters) {
  if (address.socket.empty()) {
    parameters->Add("host", address.host);
    parameters->Add("port", absl::StrCat(address.port));
    return;
  }
  int port = kDefaultPort;
  const size_t name = address.socket.rfind(kSocketName);
  const bool is_socket =
      name != std::string::npos && absl::SimpleAtoi(address.socket.substr(name + sizeof(kSocketName) - 1), &port);
  parameters->Add("host", is_socket ? address.socket.substr(0, std::max<size_t>(name, 1)) : address.socket);
  parameters->Add("port", absl::StrCat(port));
}

}  // namespace

DbError PostgresConnection::LostError() { return DbError{kConnectionLostCode, "", "the connection is lost or closed"}; }

absl::StatusOr<std::unique_ptr<PostgresConnection>> PostgresConnection::Connect(const ConnectOptions& options) {
  Parameters parameters;
  AddAddress(options.address, &parameters);
  parameters.Add("user", options.user);
  parameters.Add("password", options.password);
  // An empty one means the user's, and must not mean $PGDATABASE.
  parameters.Add("dbname", options.database.empty() ? options.user : options.database);
  parameters.Add("connect_timeout", absl::StrCat(std::max(2u, WholeSeconds(options.connect_timeout))));
  parameters.Add("tcp_user_timeout", absl::StrCat(absl::ToInt64Milliseconds(options.write_timeout)));
  parameters.Add("application_name", "assent");
  parameters.Add("client_encoding", "UTF8");
  parameters.Add("gssencmode", "disable");
  AddTls(options.tls, &parameters);
  std::vector<const char*> values;
  for (const std::string& text : parameters.texts) values.push_back(text.c_str());
  parameters.keywords.push_back(nullptr);
  values.push_back(nullptr);
  PGconn* const conn = PQconnectdbParams(parameters.keywords.data(), values.data(), /*expand_dbname=*/0);
  if (conn == nullptr) return MakeError(Reason::DATABASE_ERROR, "out of memory for a connection");
  std::unique_ptr<PostgresConnection> connection(new PostgresConnection(conn, /*owned=*/true, options.read_timeout));
  if (PQstatus(conn) != CONNECTION_OK) {
    // libpq keeps no SQLSTATE of a failed start; its text has the server's word behind "FATAL:".
    const std::string text = absl::StrReplaceAll(Trimmed(PQerrorMessage(conn)), {{"\n", " "}});
    const bool refused = absl::StrContains(text, "FATAL:") && !absl::StrContains(text, "the database system is ");
    return MakeError(refused ? Reason::DATABASE_ERROR : Reason::DATABASE_UNREACHABLE,
                     absl::StrCat("connecting to ", ToString(options.address), ": ", text));
  }
  PQsetNoticeReceiver(conn, Ignore, nullptr);
  return connection;
}

absl::StatusOr<std::unique_ptr<PostgresConnection>> PostgresConnection::Adopt(pg_conn* handle) {
  if (handle == nullptr || PQstatus(handle) != CONNECTION_OK) {
    return MakeError(Reason::DATABASE_UNREACHABLE, "the connection is not open");
  }
  if (PQtransactionStatus(handle) == PQTRANS_ACTIVE) {
    return MakeError(Reason::INVALID_FIELD, "the connection waits for an answer: read all its results first",
                     {{"field", "handle"}});
  }
  return std::unique_ptr<PostgresConnection>(
      new PostgresConnection(handle, /*owned=*/false, ConnectOptions().read_timeout));
}

void PostgresConnection::Close() {
  lost_ = true;
  if (conn_ == nullptr) return;
  if (owned_) PQfinish(conn_);
  conn_ = nullptr;
}

void PostgresConnection::Shutdown() {
  if (conn_ != nullptr && !owned_ && PQsocket(conn_) >= 0) shutdown(PQsocket(conn_), SHUT_RDWR);
  if (owned_) {
    Close();
  } else {
    lost_ = true;
  }
}

bool PostgresConnection::PeerHasClosed() const {
  if (conn_ == nullptr) return true;
  char byte = 0;
  const ssize_t got = recv(PQsocket(conn_), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got == 0) return true;
  if (got < 0) return errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
  // Between statements a server speaks only to notify, or to say farewell with an error, the end of the stream behind
  // it. (Within TLS only that end can be seen.)
  if (byte == 'E' && PQsslInUse(conn_) == 0) return true;
  pollfd fd{PQsocket(conn_), POLLRDHUP, 0};
  return poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

PostgresConnection::Transaction PostgresConnection::transaction() const {
  if (lost_ || conn_ == nullptr) return Transaction::kUnknown;
  switch (PQtransactionStatus(conn_)) {
    case PQTRANS_IDLE: return Transaction::kNone;
    case PQTRANS_INTRANS: return Transaction::kOpen;
    case PQTRANS_INERROR: return Transaction::kFailed;
    default: return Transaction::kUnknown;
  }
}

int PostgresConnection::Socket() const { return conn_ == nullptr ? -1 : PQsocket(conn_); }

int PostgresConnection::HandshakePid() const { return conn_ == nullptr ? 0 : PQbackendPID(conn_); }

void PostgresConnection::Send(absl::string_view sql) {
  CHECK(!answer_due_) << "the answer to an earlier statement was not received";
  answer_due_ = true;
  sent_ = false;
  has_nul_ = absl::StrContains(sql, absl::string_view("\0", 1));
  if (lost_ || has_nul_) return;
  ++round_trips_;
  sent_ = PQsendQuery(conn_, std::string(sql).c_str()) == 1;
  if (!sent_) MarkLost();
}

bool PostgresConnection::AwaitResult() {
  const absl::Time deadline = absl::Now() + read_timeout_;
  while (PQisBusy(conn_) == 1) {
    pollfd fd{PQsocket(conn_), POLLIN, 0};
    const absl::Duration left = std::max(absl::ZeroDuration(), deadline - absl::Now());
    const int64_t ms = std::min<int64_t>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))), 86400000);
    const int got = poll(&fd, 1, static_cast<int>(ms));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || PQconsumeInput(conn_) == 0) return false;
  }
  return true;
}

void PostgresConnection::TakeResult(pg_result* taken, QueryResult* answer) {
  switch (PQresultStatus(taken)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK: break;
    case PGRES_EMPTY_QUERY: return;
    case PGRES_COPY_IN: PQputCopyEnd(conn_, "COPY needs the connection's own handle (Branch::Run)"); return;
    case PGRES_COPY_OUT: {
      char* row = nullptr;
      while (PQgetCopyData(conn_, &row, 0) > 0) PQfreemem(row);
      answer->error = DbError{0, "0A000", "COPY needs the connection's own handle (Branch::Run)"};
      return;
    }
    default: answer->error = ErrorOf(taken); return;
  }
  ResultSet result;
  result.command_tag = PQcmdStatus(taken);
  uint64_t affected = 0;
  const int columns = PQnfields(taken);
  if (columns == 0 && absl::SimpleAtoi(PQcmdTuples(taken), &affected)) result.affected_rows = affected;
  for (int i = 0; i < columns; ++i) result.columns.emplace_back(PQfname(taken, i));
  const int rows = PQntuples(taken);
  result.rows.reserve(static_cast<size_t>(rows));
  for (int row = 0; row < rows; ++row) {
    result.rows.emplace_back(static_cast<size_t>(columns));
    for (int i = 0; i < columns; ++i) {
      if (PQgetisnull(taken, row, i) == 1) continue;
      result.rows.back()[static_cast<size_t>(i)].emplace(PQgetvalue(taken, row, i),
                                                         static_cast<size_t>(PQgetlength(taken, row, i)));
    }
  }
  answer->results.push_back(std::move(result));
}

QueryResult PostgresConnection::Receive() {
  CHECK(answer_due_) << "no answer is due";
  answer_due_ = false;
  QueryResult answer;
  if (!sent_ || conn_ == nullptr) {
    answer.error = LostError();
    if (has_nul_ && !lost_) {
      answer.error =
          DbError{0, "22021", "the statement holds a NUL byte, which PostgreSQL has none of; it was not sent"};
    }
    return answer;
  }
  for (;;) {
    if (!AwaitResult()) {
      MarkLost();
      if (answer.error.ok()) answer.error = LostError();
      answer.error.code = kConnectionLostCode;
      return answer;
    }
    PGresult* const result = PQgetResult(conn_);
    if (result == nullptr) break;
    // After an error nothing of the message is left but, when the connection breaks, a second and vaguer error.
    if (answer.error.ok()) TakeResult(result, &answer);
    PQclear(result);
  }
  if (PQstatus(conn_) != CONNECTION_OK && !answer.error.ok()) answer.error.code = kConnectionLostCode;
  if (IsConnectionLost(answer.error.code)) MarkLost();
  return answer;
}

QueryResult PostgresConnection::Query(absl::string_view sql) {
  Send(sql);
  return Receive();
}

std::string QuoteLiteral(absl::string_view text) {
  text = text.substr(0, text.find('\0'));
  if (!absl::StrContains(text, '\\')) return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "''"}}), "'");
  return absl::StrCat(" E'", absl::StrReplaceAll(text, {{"'", "''"}, {"\\", "\\\\"}}), "'");
}

std::string QuoteIdentifier(absl::string_view name) {
  return absl::StrCat("\"", absl::StrReplaceAll(name.substr(0, name.find('\0')), {{"\"", "\"\""}}), "\"");
}

}  // namespace assent
