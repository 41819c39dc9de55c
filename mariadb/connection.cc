#include "mariadb/connection.h"

#include <arpa/inet.h>
#include <glog/logging.h>
#include <mariadb/errmsg.h>
#include <mariadb/mysql.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <mutex>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"

namespace assent {
namespace {

// How to prove the password without showing it, as Connector/C calls the plugins. Without this list a server could ask
// for the password in clear (mysql_clear_password, dialog), or for one that is sealed with a key of the server's own
// choice (sha256_password), and everybody may pose as a server where there is no TLS.
constexpr char kAuthPlugins[] = "mysql_native_password,client_ed25519";
// MySQL's way. When a server does not remember the account, it has the password sealed with a key of its own choice,
// too (over TLS and sockets: in clear). So only to servers that nobody on the network can pose as.
constexpr char kAuthPluginsForKnownServers[] = "mysql_native_password,client_ed25519,caching_sha2_password";

constexpr int kErClientInteractionTimeout = 4031;

// True if whoever answers is the server, or on this very machine. TLS without verification does not make it so:
// Connector/C falls back to plain text there (see Connect), after the password was asked for.
bool IsKnownServer(const ConnectOptions& options) {
  if (!options.address.socket.empty()) return true;
  if (options.tls.required && options.tls.verify) return true;
  const std::string& host = options.address.host;
  in_addr v4;
  in6_addr v6;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

// What the library says about a refused plugin does not help anybody (nor does it always tell the right one).
DbError Explained(const ConnectOptions& options, DbError error) {
  if (!IsKnownServer(options) && absl::StrContains(error.message, "restricted_auth")) {
    error.message = absl::StrCat(
        "the server wants the password in a way that shows it to whoever poses as the server (MySQL's "
        "caching_sha2_password does): connect with TLS that verifies the server's certificate (the one that "
        "MySQL makes for itself names no host), over the server's Unix socket, or to a loopback address (",
        error.message, ")");
  }
  return error;
}

void InitLibrary() {
  static std::once_flag once;
  std::call_once(once, [] { mysql_library_init(0, nullptr, nullptr); });
}

void SetTls(MYSQL* mysql, const ConnectTls& tls) {
  const auto path = [](const std::string& text) { return text.empty() ? nullptr : text.c_str(); };
  if (!tls.required) return;
  const my_bool enforce = 1;
  const my_bool verify = tls.verify ? 1 : 0;
  mysql_ssl_set(mysql, path(tls.key), path(tls.cert), path(tls.ca), nullptr, nullptr);
  mysql_options(mysql, MYSQL_OPT_SSL_ENFORCE, &enforce);  // Asks for it; see Connect.
  mysql_options(mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
}

void SetOptions(MYSQL* mysql, const ConnectOptions& options) {
  const unsigned int connect_s = WholeSeconds(options.connect_timeout);
  const unsigned int read_s = WholeSeconds(options.read_timeout);
  const unsigned int write_s = WholeSeconds(options.write_timeout);
  const unsigned int no_local_infile = 0;  // A server must not be able to ask for this host's files.
  const my_bool no_reconnect = 0;
  // "localhost" would silently mean the default Unix socket.
  const unsigned int protocol = options.address.socket.empty() ? MYSQL_PROTOCOL_TCP : MYSQL_PROTOCOL_SOCKET;
  mysql_options(mysql, MYSQL_OPT_CONNECT_TIMEOUT, &connect_s);
  mysql_options(mysql, MYSQL_OPT_READ_TIMEOUT, &read_s);
  mysql_options(mysql, MYSQL_OPT_WRITE_TIMEOUT, &write_s);
  mysql_options(mysql, MYSQL_OPT_LOCAL_INFILE, &no_local_infile);
  mysql_options(mysql, MYSQL_OPT_RECONNECT, &no_reconnect);
  mysql_options(mysql, MYSQL_OPT_PROTOCOL, &protocol);
  mysql_options(mysql, MARIADB_OPT_RESTRICTED_AUTH,
                IsKnownServer(options) ? kAuthPluginsForKnownServers : kAuthPlugins);
  mysql_options(mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
  SetTls(mysql, options.tls);
}

}  // namespace

DbError MariaDbConnection::LostError() { return DbError{CR_SERVER_LOST, "HY000", "the connection is lost or closed"}; }

absl::StatusOr<std::unique_ptr<MariaDbConnection>> MariaDbConnection::Connect(const ConnectOptions& options) {
  InitLibrary();
  MYSQL* const mysql = mysql_init(nullptr);
  if (mysql == nullptr) return MakeError(Reason::DATABASE_ERROR, "out of memory for a connection");
  std::unique_ptr<MariaDbConnection> connection(new MariaDbConnection(mysql, /*owned=*/true));
  SetOptions(mysql, options);
  const Address& address = options.address;
  if (mysql_real_connect(mysql, address.socket.empty() ? address.host.c_str() : nullptr, options.user.c_str(),
                         options.password.c_str(), options.database.empty() ? nullptr : options.database.c_str(),
                         static_cast<unsigned int>(address.port),
                         address.socket.empty() ? nullptr : address.socket.c_str(),
                         CLIENT_MULTI_STATEMENTS) == nullptr) {
    return StatusOf(Explained(options, connection->TakeError()), absl::StrCat("connecting to ", ToString(address)));
  }
  // Connector/C enforces TLS only together with a verification; else it goes on in plain text where a server (or
  // whoever sits in between) offers none.
  if (options.tls.required && mysql_get_ssl_cipher(mysql) == nullptr) {
    return StatusOf(DbError{CR_SSL_CONNECTION_ERROR, "08000",
                            "TLS is required, but the server offers none: give it a certificate (ssl_cert, ssl_key; "
                            "its have_ssl must be YES)"},
                    absl::StrCat("connecting to ", ToString(address)));
  }
  connection->id_ = mysql_thread_id(mysql);
  return connection;
}

absl::StatusOr<std::unique_ptr<MariaDbConnection>> MariaDbConnection::Adopt(st_mysql* handle) {
  std::unique_ptr<MariaDbConnection> connection(new MariaDbConnection(handle, /*owned=*/false));
  if (mysql_set_server_option(handle, MYSQL_OPTION_MULTI_STATEMENTS_ON) != 0) {
    return StatusOf(connection->TakeError(), "setting up the session");
  }
  const my_bool no_reconnect = 0;  // The new connection would be another session.
  mysql_options(handle, MYSQL_OPT_RECONNECT, &no_reconnect);
  connection->id_ = mysql_thread_id(handle);
  return connection;
}

void MariaDbConnection::Close() {
  if (mysql_ != nullptr && owned_) mysql_close(mysql_);
  mysql_ = nullptr;
  answer_due_ = false;
  lost_ = true;
}

void MariaDbConnection::Shutdown() {
  if (mysql_ != nullptr && !owned_) shutdown(Socket(), SHUT_RDWR);
  if (owned_) Close();
  lost_ = true;
}

void MariaDbConnection::Forget() {
  mysql_ = nullptr;
  lost_ = true;
}

bool MariaDbConnection::PeerHasClosed() const {
  pollfd fd = {Socket(), POLLRDHUP, 0};
  return poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

bool MariaDbConnection::InTransaction() const {
  return !lost_ && (mysql_->server_status & SERVER_STATUS_IN_TRANS) != 0;
}

int MariaDbConnection::Socket() const { return static_cast<int>(mysql_get_socket(mysql_)); }

void MariaDbConnection::Send(absl::string_view sql) {
  CHECK(!answer_due_) << "the answer to an earlier statement was not received; connection_id=" << id_;
  answer_due_ = true;
  sent_ = false;
  if (lost_) return;
  ++round_trips_;
  sent_ = mysql_send_query(mysql_, sql.data(), sql.size()) == 0;
  if (!sent_) MarkLost();
}

QueryResult MariaDbConnection::Receive() {
  CHECK(answer_due_) << "no answer is due; connection_id=" << id_;
  answer_due_ = false;
  QueryResult answer;
  if (!sent_) {
    answer.error = LostError();
    return answer;
  }
  bool more = mysql_read_query_result(mysql_) == 0;
  if (!more) answer.error = TakeError();
  while (more) {
    ResultSet result;
    if (!ReceiveOne(&result, &answer.error)) break;
    answer.results.push_back(std::move(result));
    const int next = mysql_next_result(mysql_);
    if (next > 0) answer.error = TakeError();
    more = next == 0;
  }
  // MySQL's last words to a client that was silent for too long; another error of MariaDB's has the same number.
  if (answer.error.code == kErClientInteractionTimeout && PeerHasClosed()) answer.error.code = CR_SERVER_LOST;
  if (IsConnectionLost(answer.error.code)) MarkLost();
  return answer;
}

QueryResult MariaDbConnection::Query(absl::string_view sql) {
  Send(sql);
  return Receive();
}

bool MariaDbConnection::ReceiveOne(ResultSet* result, DbError* error) {
  if (mysql_field_count(mysql_) == 0) {
    result->affected_rows = mysql_affected_rows(mysql_);
    result->last_insert_id = mysql_insert_id(mysql_);
    result->warnings = mysql_warning_count(mysql_);
    const char* data = nullptr;
    size_t size = 0;
    if (mysql_session_track_get_first(mysql_, SESSION_TRACK_TRANSACTION_STATE, &data, &size) == 0) {
      result->transaction_state.emplace(data, size);
    }
    return true;
  }
  MYSQL_RES* const rows = mysql_store_result(mysql_);
  if (rows == nullptr) {
    *error = TakeError();
    return false;
  }
  result->warnings = mysql_warning_count(mysql_);
  const unsigned int columns = mysql_num_fields(rows);
  const MYSQL_FIELD* const fields = mysql_fetch_fields(rows);
  for (unsigned int i = 0; i < columns; ++i) result->columns.emplace_back(fields[i].name, fields[i].name_length);
  result->rows.reserve(mysql_num_rows(rows));
  while (const MYSQL_ROW row = mysql_fetch_row(rows)) {
    const unsigned long* const lengths = mysql_fetch_lengths(rows);  // NOLINT: Connector/C's type.
    result->rows.emplace_back(columns);
    for (unsigned int i = 0; i < columns; ++i) {
      if (row[i] != nullptr) result->rows.back()[i].emplace(row[i], lengths[i]);
    }
  }
  mysql_free_result(rows);
  return true;
}

DbError MariaDbConnection::TakeError() {
  DbError error{static_cast<int>(mysql_errno(mysql_)), mysql_sqlstate(mysql_), mysql_error(mysql_)};
  if (error.code == 0) error = LostError();  // Connector/C failed without saying why.
  return error;
}

}  // namespace assent
