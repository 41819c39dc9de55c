#include "base/settings.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/errors.h"
#include "base/settings_file.h"
#include "base/version.h"

namespace assent {
namespace {

// What every program takes besides its settings.
constexpr const char* kFlagsOfAll[] = {"config", "check-config", "print-config", "version", "help"};

absl::Status Invalid(absl::string_view field, absl::string_view text) {
  return MakeError(Reason::INVALID_FIELD, text, {{"field", std::string(field)}});
}

size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

Settings::Settings(std::string program, std::string about, std::string env_prefix)
    : program_(std::move(program)), about_(std::move(about)), env_prefix_(std::move(env_prefix)) {}

void Settings::AddSetting(std::string name, std::string help, std::string value, bool is_bool,
                          std::function<absl::Status(absl::string_view)> parse) {
  settings_.push_back({std::move(name), std::move(help), std::move(value), "default", is_bool, std::move(parse)});
}

void Settings::Add(std::string name, std::string* value, std::string help) {
  AddSetting(std::move(name), std::move(help), *value, false, [value](absl::string_view text) {
    *value = std::string(text);
    return absl::OkStatus();
  });
}

void Settings::Add(std::string name, bool* value, std::string help) {
  AddSetting(std::move(name), std::move(help), *value ? "true" : "false", true, [value](absl::string_view text) {
    if (text != "true" && text != "false") return absl::InvalidArgumentError("must be true or false");
    *value = text == "true";
    return absl::OkStatus();
  });
}

void Settings::Add(std::string name, int64_t* value, int64_t min, int64_t max, std::string help) {
  AddSetting(std::move(name), std::move(help), absl::StrCat(*value), false, [value, min, max](absl::string_view text) {
    int64_t number = 0;
    if (!absl::SimpleAtoi(text, &number) || number < min || number > max) {
      return absl::InvalidArgumentError(absl::StrCat("must be a whole number from ", min, " to ", max));
    }
    *value = number;
    return absl::OkStatus();
  });
}

void Settings::Add(std::string name, absl::Duration* value, absl::Duration min, absl::Duration max, std::string help) {
  AddSetting(
      std::move(name), std::move(help), absl::FormatDuration(*value), false, [value, min, max](absl::string_view text) {
        absl::Duration duration;
        if (!absl::ParseDuration(text, &duration) || duration < min || duration > max) {
          return absl::InvalidArgumentError(absl::StrCat("must be a duration like 500ms, 30s or 5m, from ",
                                                         absl::FormatDuration(min), " to ", absl::FormatDuration(max)));
        }
        *value = duration;
        return absl::OkStatus();
      });
}

void Settings::AddChoice(std::string name, std::string* value, std::vector<std::string> choices, std::string help) {
  const std::string all = absl::StrJoin(choices, ", ");
  AddSetting(std::move(name), absl::StrCat(help, " (", all, ")"), *value, false,
             [value, choices, all](absl::string_view text) {
               if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
                 return absl::InvalidArgumentError(absl::StrCat("must be one of ", all));
               }
               *value = std::string(text);
               return absl::OkStatus();
             });
}

Settings::Setting* Settings::Find(absl::string_view name) {
  const auto it =
      std::find_if(settings_.begin(), settings_.end(), [name](const Setting& setting) { return setting.name == name; });
  return it == settings_.end() ? nullptr : &*it;
}

std::string Settings::Nearest(absl::string_view name) const {
  std::vector<std::string> known = Names();
  for (const char* flag : kFlagsOfAll) known.push_back(flag);
  std::string nearest;
  size_t best = std::min<size_t>(4, name.size() / 2 + 1);  // Farther away is no typing mistake.
  for (const std::string& candidate : known) {
    const size_t distance = EditDistance(name, candidate);
    if (distance > 0 && distance < best) {  // 0: known, but not here.
      best = distance;
      nearest = candidate;
    }
  }
  return nearest.empty() ? absl::StrCat("see ", program_, " --help") : absl::StrCat("did you mean ", nearest, "?");
}

absl::Status Settings::Set(absl::string_view name, absl::string_view value, absl::string_view spelling,
                           absl::string_view origin) {
  Setting* setting = Find(name);
  if (setting == nullptr)
    return Invalid(name, absl::StrCat("unknown setting ", spelling, " in ", origin, "; ", Nearest(name)));
  if (absl::Status status = setting->parse(value); !status.ok()) {
    return Invalid(name, absl::StrCat(spelling, " in ", origin, " ", status.message(), ", not '", value, "'"));
  }
  setting->value = std::string(value);
  setting->origin = std::string(origin);
  return absl::OkStatus();
}

absl::Status Settings::ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  if (file && file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
  // A folder opens like a file and fails when it is read.
  if (!file.is_open() || file.bad() || text.bad()) {
    return Invalid("config", absl::StrCat("cannot read the file ", path, " (config)"));
  }
  absl::StatusOr<std::vector<FileSetting>> settings = ParseSettingsFile(text.str());
  if (!settings.ok()) return Invalid("config", absl::StrCat(path, " ", settings.status().message()));
  for (const FileSetting& setting : *settings) {
    const std::string origin = absl::StrCat(path, " line ", setting.line);
    if (absl::Status status = Set(setting.key, setting.value, setting.key, origin); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Settings::ReadEnvironment(const char* const* env) {
  for (; env != nullptr && *env != nullptr; ++env) {
    absl::string_view entry = *env;
    const absl::string_view variable = entry.substr(0, entry.find('='));
    absl::string_view key = variable;
    if (!absl::ConsumePrefix(&key, absl::StrCat(env_prefix_, "_")) || variable.size() == entry.size()) continue;
    const std::string name = absl::AsciiStrToLower(absl::StrReplaceAll(key, {{"_", "-"}}));
    if (name == "config") continue;  // Has been read.
    if (absl::Status status = Set(name, entry.substr(variable.size() + 1), variable, "the environment"); !status.ok())
      return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<Settings::Next> Settings::Resolve(int argc, const char* const* argv, const char* const* env,
                                                 std::ostream& out) {
  struct Flag {
    std::string name, value;
  };
  std::vector<Flag> flags;
  std::string file;
  for (const char* const* entry = env; entry != nullptr && *entry != nullptr; ++entry) {
    absl::string_view text = *entry;
    if (absl::ConsumePrefix(&text, absl::StrCat(env_prefix_, "_CONFIG="))) file = std::string(text);
  }
  bool check = false, print = false;
  for (int i = 1; i < argc; ++i) {
    absl::string_view text = argv[i];
    if (text == "-h" || text == "--help") {
      out << Help();
      return Next::kExit;
    }
    if (text == "--version") {
      out << program_ << " " << kVersion << "\n";
      return Next::kExit;
    }
    if (!absl::ConsumePrefix(&text, "--") || text.empty()) {
      return Invalid("", absl::StrCat("unexpected argument '", argv[i], "'; see ", program_, " --help"));
    }
    if (text == "check-config" || text == "print-config") {
      (text == "check-config" ? check : print) = true;
      continue;
    }
    const size_t equals = text.find('=');
    Flag flag{std::string(text.substr(0, equals)), ""};
    const Setting* setting = Find(flag.name);
    if (equals != absl::string_view::npos) {
      flag.value = std::string(text.substr(equals + 1));
    } else if (setting != nullptr && setting->is_bool) {
      flag.value = "true";
    } else if (i + 1 < argc && (setting != nullptr || flag.name == "config")) {
      flag.value = argv[++i];
    } else if (setting != nullptr || flag.name == "config") {
      return Invalid(flag.name, absl::StrCat("--", flag.name, " needs a value"));
    } else {  // Said now: whether the next argument is its value nobody can tell.
      return Set(flag.name, "", absl::StrCat("--", flag.name), "the command line");
    }
    if (flag.name == "config") {
      file = flag.value;
    } else {
      flags.push_back(std::move(flag));
    }
  }
  if (!file.empty()) {
    if (absl::Status status = ReadFile(file); !status.ok()) return status;
  }
  if (absl::Status status = ReadEnvironment(env); !status.ok()) return status;
  for (const Flag& flag : flags) {
    if (absl::Status status = Set(flag.name, flag.value, absl::StrCat("--", flag.name), "the command line");
        !status.ok())
      return status;
  }
  if (print) {
    out << Print();
    return Next::kExit;
  }
  return check ? Next::kCheckConfig : Next::kRun;
}

std::string Settings::Print() const {
  std::string out;
  for (const Setting& setting : settings_) {
    absl::StrAppend(&out, setting.name, " = ", QuoteSetting(setting.value), "  # ", setting.origin, "\n");
  }
  return out;
}

std::vector<std::string> Settings::Names() const {
  std::vector<std::string> names;
  for (const Setting& setting : settings_) names.push_back(setting.name);
  return names;
}

std::string Settings::Help() const {
  std::string out =
      absl::StrCat(program_, " ", kVersion, ": ", about_, "\n\nUsage: ", program_, " [--SETTING=VALUE]...\n\n");
  size_t width = 0;
  for (const Setting& setting : settings_) width = std::max(width, setting.name.size());
  auto line = [&out, width](absl::string_view name, absl::string_view help) {
    absl::StrAppend(&out, "  --", name, std::string(width + 2 - std::min(width, name.size()), ' '), help, "\n");
  };
  for (const Setting& setting : settings_) {
    line(setting.name, absl::StrCat(setting.help, setting.value.empty() ? "" : " [", setting.value,
                                    setting.value.empty() ? "" : "]"));
  }
  absl::StrAppend(&out, "\n");
  line("config", "a TOML file with any of these settings");
  line("check-config", "validate the settings and exit");
  line("print-config", "print the effective settings and where each comes from");
  line("version", "print the version");
  absl::StrAppend(&out, "\nEach setting may also come from the environment (", env_prefix_,
                  "_LISTEN for --listen) or from the file.\n",
                  "The command line wins over the environment, that over the file.\n");
  return out;
}

}  // namespace assent
