// The table of errors in docs/engines.md is what the code does.
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "resource_manager/postgres_session.h"
#include "resource_manager/xa_outcome.h"

namespace assent {
namespace {

const std::map<std::string, XaVerb>& Verbs() {
  static const auto* const verbs = new std::map<std::string, XaVerb>{{"START", XaVerb::kStart},
                                                                     {"PREPARE", XaVerb::kPrepare},
                                                                     {"COMMIT", XaVerb::kCommit},
                                                                     {"ROLLBACK", XaVerb::kRollback}};
  return *verbs;
}

std::vector<std::string> Listed(absl::string_view cell) {
  std::vector<std::string> items;
  for (const absl::string_view item : absl::StrSplit(cell, ',')) {
    const absl::string_view text = absl::StripAsciiWhitespace(item);
    if (!text.empty()) items.emplace_back(text);
  }
  return items;
}

TEST(EnginesDocTest, TheTableOfErrorsIsTrue) {
  std::ifstream file("docs/engines.md");
  ASSERT_TRUE(file) << "docs/engines.md is missing";
  int codes = 0;
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> cells = absl::StrSplit(line, '|');
    if (cells.size() != 7) continue;
    const std::vector<std::string> verbs = Listed(cells[1]);
    if (verbs.empty() || Verbs().count(verbs[0]) == 0) continue;
    const std::string outcome(absl::StripAsciiWhitespace(cells[4]));
    for (const std::string& verb : verbs) {
      ASSERT_EQ(Verbs().count(verb), 1u) << line;
      for (const std::string& code : Listed(cells[2])) {
        int number = 0;
        ASSERT_TRUE(absl::SimpleAtoi(code, &number)) << line;
        EXPECT_EQ(ToString(OutcomeOf(Verbs().at(verb), number)), outcome) << verb << " " << code;
        ++codes;
      }
      for (const std::string& state : Listed(cells[3])) {
        EXPECT_EQ(ToString(PostgresOutcomeOf(Verbs().at(verb), DbError{0, state, "x"})), outcome)
            << verb << " " << state;
        ++codes;
      }
    }
  }
  EXPECT_GT(codes, 40) << "the table was not found";
}

}  // namespace
}  // namespace assent
