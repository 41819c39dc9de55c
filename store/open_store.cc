#include "store/open_store.h"

#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/errors.h"
#include "store/mariadb_store.h"
#include "store/sqlite_store.h"

namespace assent {
namespace {

constexpr absl::string_view kMariaDb = "mariadb://";
constexpr absl::string_view kForm =
    "; give a path, or mariadb://USER@HOST[:PORT]/DATABASE, or mariadb://USER@/DATABASE?socket=PATH";

absl::Status Invalid(absl::string_view field, absl::string_view problem) {
  return MakeError(Reason::INVALID_FIELD, absl::StrCat(field, " ", problem), {{"field", std::string(field)}});
}

bool IsDatabaseName(absl::string_view name) {
  if (name.empty() || name.size() > 64) return false;
  for (const char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '$' && c != '-') return false;
  }
  return true;
}

// What follows mariadb://.
absl::StatusOr<MariaDbOptions> ParseMariaDb(absl::string_view text) {
  constexpr absl::string_view kSocket = "?socket=";
  MariaDbOptions options;
  if (const size_t query = text.find('?'); query != absl::string_view::npos) {
    absl::string_view socket = text.substr(query);
    if (!absl::ConsumePrefix(&socket, kSocket)) return Invalid("store", absl::StrCat("has an unknown option", kForm));
    text = text.substr(0, query);
    const absl::StatusOr<Address> address = ParseAddress(absl::StrCat("unix:", socket));
    if (!address.ok()) return Invalid("store", address.status().message());
    options.address = *address;
  }
  const size_t slash = text.rfind('/');
  const size_t at = text.substr(0, slash).rfind('@');
  if (slash == absl::string_view::npos || at == absl::string_view::npos || at == 0) {
    return Invalid("store", absl::StrCat("lacks a user or a database", kForm));
  }
  options.user = std::string(text.substr(0, at));
  if (absl::StrContains(options.user, ':')) {
    return Invalid("store", "must not hold a password, which everybody could read; put it into store-password-file");
  }
  options.database = std::string(text.substr(slash + 1));
  if (!IsDatabaseName(options.database)) {
    return Invalid("store", "names a database that is not 1 to 64 of [A-Za-z0-9_$-]");
  }
  std::string host(text.substr(at + 1, slash - at - 1));
  if (!options.address.socket.empty()) {
    return host.empty() ? absl::StatusOr<MariaDbOptions>(options)
                        : Invalid("store", absl::StrCat("has a host and a socket", kForm));
  }
  const bool has_port =
      host.find(':', absl::EndsWith(host, "]") ? host.size() : host.rfind(']') + 1) != std::string::npos;
  const absl::StatusOr<Address> address = ParseAddress(has_port ? host : absl::StrCat(host, ":3306"));
  if (!address.ok()) return Invalid("store", address.status().message());
  options.address = *address;
  return options;
}

// Who gives a certificate wants TLS, and would never notice that there is none.
absl::Status CheckTls(const StoreSettings& settings) {
  if (settings.tls_mode != "off") return absl::OkStatus();
  for (const auto& file :
       {std::make_pair("store-tls-ca", &settings.tls.ca), std::make_pair("store-tls-cert", &settings.tls.cert),
        std::make_pair("store-tls-key", &settings.tls.key)}) {
    if (!file.second->empty()) {
      return Invalid(file.first, "is given, but store-tls is off: set store-tls=on, or leave the file out");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadPassword(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return Invalid("store-password-file", absl::StrCat("cannot be read: ", path));
  std::string password = text.str();
  if (absl::EndsWith(password, "\n")) password.pop_back();
  return password;
}

}  // namespace

absl::StatusOr<StorePlace> ParseStore(const StoreSettings& settings) {
  StorePlace place;
  absl::string_view text = settings.store;
  if (absl::ConsumePrefix(&text, kMariaDb)) {
    absl::StatusOr<MariaDbOptions> options = ParseMariaDb(text);
    if (!options.ok()) return options.status();
    if (absl::Status status = CheckTls(settings); !status.ok()) return status;
    options->cluster = settings.cluster;
    options->must_exist = settings.must_exist;
    options->import_as = settings.import_as;
    options->tls = settings.tls;
    options->tls.required = settings.tls_mode != "off";
    options->tls.verify = settings.tls_mode == "on";
    options->unsafe = settings.allow_unsafe ? MariaDbOptions::Unsafe::kWarn : MariaDbOptions::Unsafe::kRefuse;
    place.mariadb = *std::move(options);
    return place;
  }
  absl::ConsumePrefix(&text, "sqlite:");
  if (const size_t colon = text.find("://"); colon != absl::string_view::npos) {
    return Invalid("store", absl::StrCat("'", text.substr(0, colon), "://…' is not supported", kForm));
  }
  if (text.empty()) return Invalid("store", absl::StrCat("must not be empty", kForm));
  place.sqlite_path = std::string(text);
  return place;
}

absl::StatusOr<std::unique_ptr<Store>> OpenStore(const StoreSettings& settings) {
  absl::StatusOr<StorePlace> place = ParseStore(settings);
  if (!place.ok()) return place.status();
  if (!place->mariadb) {
    SqliteOptions options;
    options.path = place->sqlite_path;
    options.cluster = settings.cluster;
    options.must_exist = settings.must_exist;
    options.import_as = settings.import_as;
    absl::StatusOr<std::unique_ptr<SqliteStore>> store = SqliteStore::Open(options);
    if (!store.ok()) return store.status();
    return std::unique_ptr<Store>(*std::move(store));
  }
  absl::StatusOr<std::string> password = ReadPassword(settings.password_file);
  if (!password.ok()) return password.status();
  place->mariadb->password = *std::move(password);
  absl::StatusOr<std::unique_ptr<MariaDbStore>> store = MariaDbStore::Open(*place->mariadb);
  if (!store.ok()) return store.status();
  return std::unique_ptr<Store>(*std::move(store));
}

}  // namespace assent
