#include "tools/demo_driver/show.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace assent {
namespace {

constexpr absl::Duration kTerminalInterval = absl::Milliseconds(100);
constexpr absl::Duration kPlainInterval = absl::Seconds(3);

size_t Width(absl::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string Padded(absl::string_view text, size_t width) {
  return absl::StrCat(text, std::string(width > Width(text) ? width - Width(text) : 0, ' '));
}

void Print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

std::vector<size_t> Widths(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const std::vector<std::string>& row : rows) {
    if (widths.size() < row.size()) widths.resize(row.size());
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  return widths;
}

}  // namespace

std::string WithCommas(int64_t number) {
  std::string text = absl::StrCat(number);
  const size_t first = number < 0 ? 1 : 0;
  for (size_t i = text.size(); i > first + 3; i -= 3) text.insert(i - 3, ",");
  return text;
}

void ShowQuery(absl::string_view server, absl::string_view sql, const QueryResult& result) {
  std::string out = absl::StrCat("      ", server, "> ", sql, "\n");
  if (!result.ok()) {
    Print(absl::StrCat(out, "      ERROR ", result.error.code, ": ", result.error.message, "\n"));
    return;
  }
  std::vector<std::vector<std::string>> rows;
  for (const ResultSet& set : result.results) {
    if (!set.columns.empty()) rows.push_back(set.columns);
  }
  for (const auto& row : result.rows()) {
    rows.emplace_back();
    for (const auto& value : row) rows.back().push_back(value.value_or("NULL"));
  }
  if (rows.size() <= 1) {
    Print(absl::StrCat(out, rows.empty() ? "      OK\n" : "      (no rows)\n"));
    return;
  }
  const std::vector<size_t> widths = Widths(rows);
  std::string rule = "      +";
  for (size_t width : widths) absl::StrAppend(&rule, std::string(width + 2, '-'), "+");
  rule += "\n";
  out += rule;
  for (size_t i = 0; i < rows.size(); ++i) {
    out += "      |";
    for (size_t c = 0; c < widths.size(); ++c) absl::StrAppend(&out, " ", Padded(rows[i][c], widths[c]), " |");
    out += "\n";
    if (i == 0) out += rule;
  }
  Print(out + rule);
}

void ShowTable(const std::vector<std::string>& heading, const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::vector<std::string>> all = {heading};
  all.insert(all.end(), rows.begin(), rows.end());
  const std::vector<size_t> widths = Widths(all);
  for (size_t i = 0; i < all.size(); ++i) {
    std::string line = "    ";
    for (size_t c = 0; c < all[i].size(); ++c) {
      absl::StrAppend(&line, c + 1 < all[i].size() ? Padded(all[i][c], widths[c] + 3) : all[i][c]);
    }
    Print(line + "\n");
    if (i > 0) continue;
    size_t total = 0;
    for (size_t width : widths) total += width + 3;
    Print(absl::StrCat("    ", std::string(total - 3, '-'), "\n"));
  }
}

ProgressLine::ProgressLine() : terminal_(isatty(STDOUT_FILENO) == 1) {}

void ProgressLine::Update(const std::string& text) {
  const absl::Time now = absl::Now();
  if (now - last_ < (terminal_ ? kTerminalInterval : kPlainInterval)) return;
  last_ = now;
  Print(terminal_ ? absl::StrCat("\r\033[K    ", text) : absl::StrCat("    ", text, "\n"));
  shown_ = terminal_;
}

void ProgressLine::Finish(const std::string& text) {
  Print(absl::StrCat(shown_ ? "\r\033[K" : "", "    ", text, "\n"));
  shown_ = false;
}

void ProgressLine::Note(const std::string& text) {
  Print(absl::StrCat(shown_ ? "\r\033[K" : "", "    ", text, "\n"));
  shown_ = false;
  if (terminal_) last_ = absl::InfinitePast();
}

}  // namespace assent
