#include "tools/assentctl/text.h"

#include "gtest/gtest.h"

namespace assent {
namespace {

TEST(TextTest, NothingThatATerminalObeysPasses) {
  EXPECT_EQ(Escape("plain Ünï ✓ 😀"), "plain Ünï ✓ 😀");
  EXPECT_EQ(Escape("\x1b[2J\x07"), "\\x1b[2J\\x07");
  EXPECT_EQ(Escape("a\nb\tc\r"), "a\\nb\\tc\\x0d");
  EXPECT_EQ(Escape(absl::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(Escape("\xc2\x9b"
                   "31m"),
            "\\xc2\\x9b31m");  // CSI as one character.
  EXPECT_EQ(Escape("\xe2\x80\xae"
                   "x"),
            "\\xe2\\x80\\xaex");                                           // Right-to-left override.
  EXPECT_EQ(Escape("\xff\xc3"), "\\xff\\xc3");                             // Not UTF-8, cut off.
  EXPECT_EQ(Escape("\xc0\xaf\xed\xa0\x80"), "\\xc0\\xaf\\xed\\xa0\\x80");  // Overlong, a surrogate.
  EXPECT_EQ(Escape("\x7f"), "\\x7f");
}

TEST(TextTest, CutsByCharactersAndSaysSo) {
  EXPECT_EQ(EscapeAndCut("üüüü", 4), "üüüü");
  EXPECT_EQ(EscapeAndCut("üüüüü", 4), "üüü…");
  EXPECT_EQ(EscapeAndCut("", 4), "");
}

TEST(TextTest, RelativeTimesHaveOneUnit) {
  const absl::Time now = absl::FromUnixSeconds(1000000);
  EXPECT_EQ(Relative(now, now), "now");
  EXPECT_EQ(Relative(now - absl::Milliseconds(999), now), "now");
  EXPECT_EQ(Relative(now - absl::Seconds(1), now), "1s ago");
  EXPECT_EQ(Relative(now - absl::Seconds(119), now), "119s ago");
  EXPECT_EQ(Relative(now - absl::Seconds(120), now), "2m ago");
  EXPECT_EQ(Relative(now - absl::Minutes(119), now), "119m ago");
  EXPECT_EQ(Relative(now - absl::Hours(2), now), "2h ago");
  EXPECT_EQ(Relative(now - absl::Hours(24 * 500), now), "500d ago");
  EXPECT_EQ(Relative(now + absl::Seconds(57), now), "in 57s");
}

TEST(TextTest, SpansHaveTheirTwoLargestUnits) {
  EXPECT_EQ(Span(absl::ZeroDuration()), "0s");
  EXPECT_EQ(Span(absl::Milliseconds(999)), "0s");
  EXPECT_EQ(Span(-absl::Seconds(5)), "0s");
  EXPECT_EQ(Span(absl::Seconds(59)), "59s");
  EXPECT_EQ(Span(absl::Seconds(60)), "1m");
  EXPECT_EQ(Span(absl::Seconds(192)), "3m12s");
  EXPECT_EQ(Span(absl::Hours(1) + absl::Seconds(12)), "1h");
  EXPECT_EQ(Span(absl::Hours(53) + absl::Minutes(59)), "2d5h");
}

TEST(TextTest, TablesAreAligned) {
  Table table({"NAME", "N", "WHY"});
  EXPECT_TRUE(table.empty());
  table.Add({"ü", "100", ""});
  table.Add({"long-name", "1", "two\nlines"});
  table.Add({"", "", "x"});
  EXPECT_FALSE(table.empty());
  EXPECT_EQ(table.Render(),
            "NAME       N    WHY\n"
            "ü          100\n"
            "long-name  1    two\\nlines\n"
            "                x\n");
}

TEST(TextTest, SheetsLeaveOutWhatIsEmpty) {
  Sheet sheet;
  sheet.Add("State", "ACTIVE");
  sheet.Add("Why", "");
  sheet.Add("Decided by", "x");
  EXPECT_EQ(sheet.Render(), "State       ACTIVE\nDecided by  x\n");
}

}  // namespace
}  // namespace assent
