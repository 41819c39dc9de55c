#include "tools/assentctl/text.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/utf8.h"

namespace assent {
namespace {

constexpr size_t kGap = 2;

bool IsHarmless(uint32_t code) {
  if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return false;
  if (code >= 0x200b && code <= 0x200f) return false;                                          // Zero width, direction.
  if ((code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069)) return false;  // Lines, direction.
  return code != 0xfeff;
}

// Code points: near enough to columns for what stands in our tables.
size_t Width(absl::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

std::string RenderRows(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  std::string out;
  for (const auto& row : rows) {
    size_t padding = 0;
    for (size_t i = 0; i < row.size(); ++i) {
      if (!row[i].empty()) {
        absl::StrAppend(&out, std::string(padding, ' '), row[i]);
        padding = 0;
      }
      padding += widths[i] - Width(row[i]) + kGap;
    }
    out.push_back('\n');
  }
  return out;
}

}  // namespace

std::string Escape(absl::string_view text) {
  std::string out;
  while (!text.empty()) {
    uint32_t code = 0;
    const size_t size = Utf8Character(text, &code);
    if (size > 0 && IsHarmless(code)) {
      absl::StrAppend(&out, text.substr(0, size));
    } else if (code == '\n' || code == '\t') {
      absl::StrAppend(&out, code == '\n' ? "\\n" : "\\t");
    } else {
      for (const char c : text.substr(0, std::max<size_t>(size, 1))) {
        absl::StrAppendFormat(&out, "\\x%02x", static_cast<unsigned char>(c));
      }
    }
    text.remove_prefix(std::max<size_t>(size, 1));
  }
  return out;
}

std::string EscapeAndCut(absl::string_view text, size_t max_characters) {
  std::string escaped = Escape(text);
  if (Width(escaped) <= max_characters) return escaped;
  size_t end = 0;
  for (size_t characters = 0; characters + 1 < max_characters; ++characters) {
    uint32_t code = 0;
    end += Utf8Character(absl::string_view(escaped).substr(end), &code);
  }
  return escaped.substr(0, end) + "…";
}

std::string Relative(absl::Time time, absl::Time now) {
  const absl::Duration distance = time > now ? time - now : now - time;
  if (distance < absl::Seconds(1)) return "now";
  const std::pair<absl::Duration, const char*> kUnits[] = {
      {absl::Hours(24), "d"}, {absl::Hours(1), "h"}, {absl::Minutes(1), "m"}};
  std::string text = absl::StrCat(absl::ToInt64Seconds(distance), "s");
  for (const auto& unit : kUnits) {
    if (distance >= 2 * unit.first) {
      text = absl::StrCat(absl::ToInt64Seconds(distance) / absl::ToInt64Seconds(unit.first), unit.second);
      break;
    }
  }
  return time > now ? absl::StrCat("in ", text) : absl::StrCat(text, " ago");
}

std::string Span(absl::Duration duration) {
  int64_t seconds = std::max<int64_t>(absl::ToInt64Seconds(duration), 0);
  const std::pair<int64_t, const char*> kUnits[] = {{24 * 3600, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}};
  std::string text;
  int units = 0;
  for (const auto& unit : kUnits) {
    const int64_t count = seconds / unit.first;
    seconds %= unit.first;
    if (count > 0) absl::StrAppend(&text, count, unit.second);
    if (!text.empty() && ++units == 2) break;
  }
  return text.empty() ? "0s" : text;
}

void Table::Add(const std::vector<std::string>& cells) {
  std::vector<std::string> row;
  for (const std::string& cell : cells) row.push_back(Escape(cell));
  rows_.push_back(std::move(row));
}

std::string Table::Render() const { return RenderRows(rows_); }

void Sheet::Add(absl::string_view name, absl::string_view value) {
  if (!value.empty()) rows_.push_back({std::string(name), Escape(value)});
}

std::string Sheet::Render() const { return RenderRows(rows_); }

}  // namespace assent
