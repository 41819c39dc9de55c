// Text for people's terminals: tables, relative times, and bytes that cannot do harm.
#ifndef ASSENT_TOOLS_ASSENTCTL_TEXT_H_
#define ASSENT_TOOLS_ASSENTCTL_TEXT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace assent {

// The text on one line, with everything that a terminal could take for a command (control characters, also those beyond
// ASCII, and marks that change the direction of writing) and everything that is not UTF-8 written as \n, \t or \xHH.
std::string Escape(absl::string_view text);
// Escaped, and cut to so many characters, the last of them an ellipsis.
std::string EscapeAndCut(absl::string_view text, size_t max_characters);

// "3m ago", "in 57s", "now"; one unit, the largest of which there are at least two (one for seconds).
std::string Relative(absl::Time time, absl::Time now);

// "3m12s", "2d5h", "0s": how long something takes or has lasted; its two largest units, whole ones.
std::string Span(absl::Duration duration);

// Rows under a heading, columns aligned, two blanks between them, none at the ends of lines.
class Table {
 public:
  explicit Table(std::vector<std::string> heading) { rows_.push_back(std::move(heading)); }
  // As many cells as the heading has; each is escaped here.
  void Add(const std::vector<std::string>& cells);
  bool empty() const { return rows_.size() == 1; }
  std::string Render() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// "Name       value" lines with the values under each other; empty values are left out.
class Sheet {
 public:
  void Add(absl::string_view name, absl::string_view value);
  std::string Render() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace assent

#endif  // ASSENT_TOOLS_ASSENTCTL_TEXT_H_
