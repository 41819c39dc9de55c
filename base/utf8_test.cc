#include "base/utf8.h"

#include "gtest/gtest.h"

namespace assent {
namespace {

TEST(Utf8Test, IsWhatProtobufAccepts) {
  EXPECT_TRUE(IsUtf8(""));
  EXPECT_TRUE(IsUtf8("aü✓😀"));
  EXPECT_TRUE(IsUtf8("\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
  EXPECT_TRUE(IsUtf8(absl::string_view("\0", 1)));
  for (const char* bad : {"\x80", "\xff", "\xc3", "\xc3x", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80",
                          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "ok\xe2"}) {
    EXPECT_FALSE(IsUtf8(bad));
  }
}

TEST(Utf8Test, CutsBetweenCharacters) {
  EXPECT_EQ(ToUtf8("aüb", 4), "aüb");
  EXPECT_EQ(ToUtf8("aüb", 3), "aü");
  EXPECT_EQ(ToUtf8("aüb", 2), "a");
  EXPECT_EQ(ToUtf8("😀", 3), "");
  EXPECT_EQ(ToUtf8("x", 0), "");
}

TEST(Utf8Test, WhatIsNotUtf8BecomesQuestionMarks) {
  EXPECT_EQ(ToUtf8("a\xff\xc3", 10), "a??");
  EXPECT_EQ(ToUtf8("\xed\xa0\x80x", 10), "???x");
  EXPECT_EQ(ToUtf8("\xe2\x82", 10), "??");
}

}  // namespace
}  // namespace assent
