// Settings of a program: flag > environment > file > default, one list for all four.
//
// A setting `drain-grace` of a program with the prefix ASSENTD is `--drain-grace=10s` on the command line,
// `ASSENTD_DRAIN_GRACE` in the environment and `drain-grace = "10s"` in the file that --config names (the part
// of TOML in settings_file.h). Unknown flags, variables with the prefix and keys of the file are errors that name the
// nearest known one.
#ifndef ASSENT_BASE_SETTINGS_H_
#define ASSENT_BASE_SETTINGS_H_

#include <cstdint>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace assent {

// Not thread-safe: used once, at the start.
class Settings {
 public:
  // `program` as the user types it; `about` one line for --help; `env_prefix` without the underscore.
  Settings(std::string program, std::string about, std::string env_prefix);

  // Each binds a setting to a variable that holds its default and outlives this object.
  void Add(std::string name, std::string* value, std::string help);
  void Add(std::string name, bool* value, std::string help);
  void Add(std::string name, int64_t* value, int64_t min, int64_t max, std::string help);
  // "500ms", "30s", "5m", "24h".
  void Add(std::string name, absl::Duration* value, absl::Duration min, absl::Duration max, std::string help);
  void AddChoice(std::string name, std::string* value, std::vector<std::string> choices, std::string help);

  enum class Next {
    kRun,          // Go on.
    kCheckConfig,  // --check-config: validate what only the program can, say "ok" and exit.
    kExit,         // --help, --version, --print-config: it has been printed; exit with 0.
  };
  // Reads all sources into the variables. INVALID_FIELD (metadata `field`) says what is wrong and where it came from;
  // the variables are then half set.
  absl::StatusOr<Next> Resolve(int argc, const char* const* argv, const char* const* env, std::ostream& out);

  // The effective settings with their origins, as a file that --config reads.
  std::string Print() const;
  // Names, in order of Add.
  std::vector<std::string> Names() const;

 private:
  struct Setting {
    std::string name;
    std::string help;
    std::string value;   // As text.
    std::string origin;  // "default", "the environment", …
    bool is_bool = false;
    std::function<absl::Status(absl::string_view)> parse;
  };

  void AddSetting(std::string name, std::string help, std::string value, bool is_bool,
                  std::function<absl::Status(absl::string_view)> parse);
  absl::Status Set(absl::string_view name, absl::string_view value, absl::string_view spelling,
                   absl::string_view origin);
  Setting* Find(absl::string_view name);
  std::string Nearest(absl::string_view name) const;
  absl::Status ReadFile(const std::string& path);
  absl::Status ReadEnvironment(const char* const* env);
  std::string Help() const;

  const std::string program_;
  const std::string about_;
  const std::string env_prefix_;
  std::vector<Setting> settings_;
};

}  // namespace assent

#endif  // ASSENT_BASE_SETTINGS_H_
