#include "tests/readme/readme_session.h"

#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace assent {

std::string FencedBlock(const std::string& markdown, const std::string& language) {
  const std::string open = "```" + language + "\n";
  const size_t begin = markdown.find(open);
  if (begin == std::string::npos) return "";
  const size_t text = begin + open.size();
  const size_t end = markdown.find("\n```", text);
  return end == std::string::npos ? "" : markdown.substr(text, end + 1 - text);
}

std::vector<ConsoleStep> ConsoleSteps(const std::string& block) {
  std::vector<ConsoleStep> steps;
  for (absl::string_view line : absl::StrSplit(block, '\n', absl::SkipEmpty())) {
    if (absl::ConsumePrefix(&line, "$ ")) {
      steps.push_back({std::string(line), {}});
    } else if (!steps.empty()) {
      steps.back().shown.emplace_back(line);
    }
  }
  return steps;
}

}  // namespace assent
