// ParseSettingsFile: the small part of TOML that a file of settings needs.
#ifndef ASSENT_BASE_SETTINGS_FILE_H_
#define ASSENT_BASE_SETTINGS_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace assent {

struct FileSetting {
  std::string key;
  std::string value;  // Without quotes, escapes resolved.
  int line = 0;       // From 1.
};

// One `key = value` a line, in order. A value is a "basic string" (with \" \\ \n \t), a 'literal string', or a bare
// word of letters, digits and . : + - _ (true, 7, 10s). `#` begins a comment. Everything else of TOML (sections,
// arrays, tables, dotted keys, strings over several lines) is refused. INVALID_FIELD says `line N: what is wrong`.
// Never repeats the text of the line: it may be anything.
absl::StatusOr<std::vector<FileSetting>> ParseSettingsFile(absl::string_view text);

// The value as a basic string, as ParseSettingsFile reads it. Control characters other than newline and tab cannot be
// written and are left out.
std::string QuoteSetting(absl::string_view value);

}  // namespace assent

#endif  // ASSENT_BASE_SETTINGS_FILE_H_
