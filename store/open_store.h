// OpenStore: the store that a setting names, whichever kind it is.
#ifndef ASSENT_STORE_OPEN_STORE_H_
#define ASSENT_STORE_OPEN_STORE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "store/mariadb_options.h"
#include "store/store.h"

namespace assent {

// As people write it: a path or `sqlite:PATH`, or `mariadb://USER@HOST[:PORT]/DATABASE` (through a Unix socket:
// `mariadb://USER@/DATABASE?socket=PATH`), and what does not fit into that.
struct StoreSettings {
  std::string store = "assent.db";
  std::string cluster = "assent";
  std::string password_file;     // Of the MariaDB user; empty: no password.
  ConnectTls tls;                // `required` follows from `tls_mode`.
  std::string tls_mode = "off";  // off, on, or insecure: encrypted, but whoever answers is believed.
  bool allow_unsafe = false;     // Warn of a server that can lose what it has acknowledged, instead of refusing it.

  // For tools, not settings: see SqliteOptions.
  bool must_exist = false;
  std::string import_as;
};

// Where a store is; exactly one of the two.
struct StorePlace {
  std::string sqlite_path;
  absl::optional<MariaDbOptions> mariadb;  // Without password.
};

// INVALID_FIELD (metadata `field` is the setting's name) says what is wrong. Reads no file.
absl::StatusOr<StorePlace> ParseStore(const StoreSettings& settings);

// Opens it; errors as of SqliteStore::Open and MariaDbStore::Open, or INVALID_FIELD. Warnings go to the log.
absl::StatusOr<std::unique_ptr<Store>> OpenStore(const StoreSettings& settings);

}  // namespace assent

#endif  // ASSENT_STORE_OPEN_STORE_H_
