// Completion scripts for shells, made from the command line's own description.
#ifndef ASSENT_TOOLS_ASSENTCTL_COMPLETION_H_
#define ASSENT_TOOLS_ASSENTCTL_COMPLETION_H_

#include <map>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace assent {

// What stands at a place of the command line: "" is behind the program's name, " globals list" behind those words.
struct CompletionPlace {
  std::vector<std::string> subcommands;
  std::vector<std::string> options;  // With their dashes.
};

struct CompletionTree {
  std::string program;
  std::map<std::string, CompletionPlace> places;
  // The words that an option (or, by its place, a positional argument) takes.
  std::map<std::string, std::vector<std::string>> values;
  // Options that take a file.
  std::vector<std::string> file_options;
};

// The places of an application and its subcommands.
CompletionTree TreeOf(const CLI::App& app);

std::string BashCompletion(const CompletionTree& tree);
std::string ZshCompletion(const CompletionTree& tree);
std::string FishCompletion(const CompletionTree& tree);

}  // namespace assent

#endif  // ASSENT_TOOLS_ASSENTCTL_COMPLETION_H_
