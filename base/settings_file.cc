#include "base/settings_file.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/errors.h"

namespace assent {
namespace {

absl::Status Wrong(int line, absl::string_view what) {
  return MakeError(Reason::INVALID_FIELD, absl::StrCat("line ", line, ": ", what), {{"line", absl::StrCat(line)}});
}

bool IsKeyChar(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_'; }

// Takes a quoted string from the front of *rest, which begins with the quote. False if it does not end.
bool ConsumeQuoted(absl::string_view* rest, std::string* value, bool* bad_escape) {
  const char quote = rest->front();
  for (size_t i = 1; i < rest->size(); ++i) {
    char c = (*rest)[i];
    if (c == quote) {
      rest->remove_prefix(i + 1);
      return true;
    }
    if (c == '\\' && quote == '"') {
      const char next = ++i < rest->size() ? (*rest)[i] : '\0';
      switch (next) {
        case '"':
        case '\\': c = next; break;
        case 'n': c = '\n'; break;
        case 't': c = '\t'; break;
        default: *bad_escape = true; return true;
      }
    }
    value->push_back(c);
  }
  return false;
}

bool IsEndOfLine(absl::string_view rest) {
  rest = absl::StripLeadingAsciiWhitespace(rest);
  return rest.empty() || rest.front() == '#';
}

absl::StatusOr<FileSetting> ParseLine(absl::string_view text, int line) {
  FileSetting setting;
  setting.line = line;
  if (text.front() == '[') return Wrong(line, "sections are not supported; settings stand at the top level");
  const size_t equals = text.find('=');
  if (equals == absl::string_view::npos) return Wrong(line, "no '='; a line reads `setting = value`");
  const absl::string_view key = absl::StripAsciiWhitespace(text.substr(0, equals));
  if (key.empty() || !std::all_of(key.begin(), key.end(), IsKeyChar)) {
    return Wrong(line, "the name before '=' must be letters, digits, '-' or '_'");
  }
  setting.key = std::string(key);
  absl::string_view rest = absl::StripLeadingAsciiWhitespace(text.substr(equals + 1));
  if (IsEndOfLine(rest)) return Wrong(line, "no value; an empty one is \"\"");
  if (rest.front() == '[' || rest.front() == '{') return Wrong(line, "a setting has one value, no array or table");
  if (absl::StartsWith(rest, "\"\"\"") || absl::StartsWith(rest, "'''")) {
    return Wrong(line, "strings over several lines are not supported");
  }
  if (rest.front() == '"' || rest.front() == '\'') {
    bool bad_escape = false;
    if (!ConsumeQuoted(&rest, &setting.value, &bad_escape)) return Wrong(line, "the closing quote is missing");
    if (bad_escape)
      return Wrong(line, "in \"…\" a backslash stands only in \\\" \\\\ \\n and \\t; '…' takes it as it is");
    if (!IsEndOfLine(rest)) return Wrong(line, "there is something behind the value");
    return setting;
  }
  const absl::string_view word = absl::StripAsciiWhitespace(rest.substr(0, rest.find('#')));
  for (const char c : word) {
    if (!IsKeyChar(c) && c != '.' && c != '+' && c != ':') {
      return Wrong(line, "a value with anything but letters, digits and . : + - _ needs quotes");
    }
  }
  setting.value = std::string(word);
  return setting;
}

}  // namespace

absl::StatusOr<std::vector<FileSetting>> ParseSettingsFile(absl::string_view text) {
  std::vector<FileSetting> settings;
  int line = 0;
  for (absl::string_view each : absl::StrSplit(text, '\n')) {
    ++line;
    if (std::any_of(each.begin(), each.end(), [](char c) { return absl::ascii_iscntrl(c) && c != '\t' && c != '\r'; }))
      return Wrong(line, "there is a control character");
    each = absl::StripAsciiWhitespace(each);
    if (IsEndOfLine(each)) continue;
    absl::StatusOr<FileSetting> setting = ParseLine(each, line);
    if (!setting.ok()) return setting.status();
    for (const FileSetting& earlier : settings) {
      if (earlier.key == setting->key) {
        return Wrong(line, absl::StrCat(setting->key, " was set in line ", earlier.line, " already"));
      }
    }
    settings.push_back(*std::move(setting));
  }
  return settings;
}

std::string QuoteSetting(absl::string_view value) {
  std::string out = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", absl::string_view(&c, 1));
    } else if (c == '\n' || c == '\t') {
      absl::StrAppend(&out, c == '\n' ? "\\n" : "\\t");
    } else if (!absl::ascii_iscntrl(c)) {
      out.push_back(c);
    }
  }
  return out + "\"";
}

}  // namespace assent
