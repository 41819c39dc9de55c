// What the demo prints: tables, numbers, and a progress line that stays in place on a terminal.
#ifndef ASSENT_TOOLS_DEMO_DRIVER_SHOW_H_
#define ASSENT_TOOLS_DEMO_DRIVER_SHOW_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "resource_manager/mariadb_session.h"

namespace assent {

// 1234567 -> "1,234,567".
std::string WithCommas(int64_t number);

// A statement and what it answered, the way a database's shell shows it.
void ShowQuery(absl::string_view server, absl::string_view sql, const QueryResult& result);

// Rows of text in aligned columns under a heading. Widths count UTF-8 characters, not bytes.
void ShowTable(const std::vector<std::string>& heading, const std::vector<std::vector<std::string>>& rows);

// A line that is written over on a terminal, and otherwise printed anew every few seconds.
class ProgressLine {
 public:
  ProgressLine();
  void Update(const std::string& text);
  // The last state stays.
  void Finish(const std::string& text);
  // Something worth a line of its own.
  void Note(const std::string& text);

 private:
  const bool terminal_;
  bool shown_ = false;  // A line is there to be written over.
  absl::Time last_ = absl::InfinitePast();
};

}  // namespace assent

#endif  // ASSENT_TOOLS_DEMO_DRIVER_SHOW_H_
