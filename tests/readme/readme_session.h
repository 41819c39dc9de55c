// What README.md shows, taken out of it, so that tests can do it.
#ifndef ASSENT_TESTS_README_README_SESSION_H_
#define ASSENT_TESTS_README_README_SESSION_H_

#include <string>
#include <vector>

namespace assent {

struct ConsoleStep {
  std::string command;             // Without the "$ ".
  std::vector<std::string> shown;  // The lines that README shows behind it.
};

// The fenced block that begins with ```<language>; empty if there is none.
std::string FencedBlock(const std::string& markdown, const std::string& language);
// The steps of a ```console block.
std::vector<ConsoleStep> ConsoleSteps(const std::string& block);

}  // namespace assent

#endif  // ASSENT_TESTS_README_README_SESSION_H_
