#include "tools/assentctl/completion.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace assent {
namespace {

void Visit(const CLI::App& app, const std::string& place, CompletionTree* tree) {
  CompletionPlace here;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_snames()) here.options.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) here.options.push_back("--" + name);
  }
  for (const CLI::App* sub : app.get_subcommands(std::function<bool(const CLI::App*)>())) {
    here.subcommands.push_back(sub->get_name());
    Visit(*sub, absl::StrCat(place, " ", sub->get_name()), tree);
  }
  tree->places[place] = std::move(here);
}

std::vector<std::string> Words(const CompletionTree& tree, const std::string& place) {
  const CompletionPlace& here = tree.places.at(place);
  std::vector<std::string> words = here.subcommands;
  const auto values = tree.values.find(place);
  if (values != tree.values.end()) words.insert(words.end(), values->second.begin(), values->second.end());
  words.insert(words.end(), here.options.begin(), here.options.end());
  // The program's own options are taken everywhere.
  if (!place.empty()) {
    for (const std::string& option : tree.places.at("").options) {
      if (std::find(words.begin(), words.end(), option) == words.end()) words.push_back(option);
    }
  }
  return words;
}

// `"a"|"b"` of all places but the first.
std::string PlacePatterns(const CompletionTree& tree) {
  std::vector<std::string> patterns;
  for (const auto& place : tree.places) {
    if (!place.first.empty()) patterns.push_back(absl::StrCat("\"", place.first, "\""));
  }
  return absl::StrJoin(patterns, "|");
}

bool IsOption(absl::string_view name) { return absl::StartsWith(name, "-"); }

}  // namespace

CompletionTree TreeOf(const CLI::App& app) {
  CompletionTree tree;
  tree.program = app.get_name();
  Visit(app, "", &tree);
  return tree;
}

std::string BashCompletion(const CompletionTree& tree) {
  std::string values, places;
  for (const auto& value : tree.values) {
    if (!IsOption(value.first)) continue;
    absl::StrAppend(&values, "    ", value.first, ") COMPREPLY=($(compgen -W \"", absl::StrJoin(value.second, " "),
                    "\" -- \"$current\")); return ;;\n");
  }
  absl::StrAppend(&values, "    ", absl::StrJoin(tree.file_options, "|"),
                  ") COMPREPLY=($(compgen -f -- \"$current\")); return ;;\n");
  for (const auto& place : tree.places) {
    absl::StrAppend(&places, "    \"", place.first, "\") words=\"", absl::StrJoin(Words(tree, place.first), " "),
                    "\" ;;\n");
  }
  return absl::StrReplaceAll(
      R"sh(# bash completion of PROGRAM: eval "$(PROGRAM completion bash)"
_PROGRAM() {
  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" at="" words="" word
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$at $word" in
      PATTERNS) at="$at $word" ;;
    esac
  done
  COMPREPLY=()
  case "$previous" in
VALUES  esac
  case "$at" in
PLACES  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _PROGRAM PROGRAM
)sh",
      {{"PROGRAM", tree.program}, {"PATTERNS", PlacePatterns(tree)}, {"VALUES", values}, {"PLACES", places}});
}

std::string ZshCompletion(const CompletionTree& tree) {
  std::string values, places;
  for (const auto& value : tree.values) {
    if (!IsOption(value.first)) continue;
    absl::StrAppend(&values, "    (", value.first, ") compadd -- ", absl::StrJoin(value.second, " "), "; return ;;\n");
  }
  absl::StrAppend(&values, "    (", absl::StrJoin(tree.file_options, "|"), ") _files; return ;;\n");
  for (const auto& place : tree.places) {
    absl::StrAppend(&places, "    (\"", place.first, "\") compadd -- ", absl::StrJoin(Words(tree, place.first), " "),
                    " ;;\n");
  }
  return absl::StrReplaceAll(
      R"sh(#compdef PROGRAM
# zsh completion of PROGRAM: eval "$(PROGRAM completion zsh)", or as the file _PROGRAM in a folder of $fpath
_PROGRAM() {
  local at="" word previous="${words[CURRENT-1]}"
  for word in "${(@)words[2,CURRENT-1]}"; do
    case "$at $word" in
      (PATTERNS) at="$at $word" ;;
    esac
  done
  case "$previous" in
VALUES  esac
  case "$at" in
PLACES  esac
}
if [[ "${funcstack[1]}" == "_PROGRAM" ]]; then
  _PROGRAM "$@"
else
  compdef _PROGRAM PROGRAM
fi
)sh",
      {{"PROGRAM", tree.program}, {"PATTERNS", PlacePatterns(tree)}, {"VALUES", values}, {"PLACES", places}});
}

std::string FishCompletion(const CompletionTree& tree) {
  std::string out = absl::StrReplaceAll(
      R"sh(# fish completion of PROGRAM: PROGRAM completion fish | source
function __PROGRAM_at
    set -l at ""
    for word in (commandline -opc)[2..-1]
        switch "$at $word"
            case PATTERNS
                set at "$at $word"
        end
    end
    test "$at" = "$argv[1]"
end
complete -c PROGRAM -f
)sh",
      {{"PROGRAM", tree.program}, {"PATTERNS", absl::StrReplaceAll(PlacePatterns(tree), {{"|", " "}})}});
  for (const auto& place : tree.places) {
    const std::string begin =
        absl::StrCat("complete -c ", tree.program, " -n '__", tree.program, "_at \"", place.first, "\"' ");
    std::vector<std::string> words = place.second.subcommands;
    const auto positional = tree.values.find(place.first);
    if (positional != tree.values.end())
      words.insert(words.end(), positional->second.begin(), positional->second.end());
    if (!words.empty()) absl::StrAppend(&out, begin, "-a '", absl::StrJoin(words, " "), "'\n");
    for (const std::string& option : place.second.options) {
      absl::string_view name = option;
      const bool is_long = absl::ConsumePrefix(&name, "--");
      if (!is_long) absl::ConsumePrefix(&name, "-");
      const bool takes_file =
          std::find(tree.file_options.begin(), tree.file_options.end(), option) != tree.file_options.end();
      const auto values = tree.values.find(option);
      // The program's own options are taken everywhere.
      absl::StrAppend(&out, place.first.empty() ? absl::StrCat("complete -c ", tree.program, " ") : begin,
                      is_long ? "-l " : "-s ", name, takes_file ? " -r -F" : "");
      if (values != tree.values.end()) absl::StrAppend(&out, " -x -a '", absl::StrJoin(values->second, " "), "'");
      absl::StrAppend(&out, "\n");
    }
  }
  return out;
}

}  // namespace assent
