#include "base/settings_file.h"

#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(SettingsFileTest, ReadsStringsWordsAndComments) {
  const auto settings = ParseSettingsFile(
      "# assentd\n"
      "\n"
      "listen = \"127.0.0.1:7411\"  # where\r\n"
      "  store='C:\\a # b'\n"
      "insecure=true#comment\n"
      "drain-grace = 10s\n"
      "name = \"say \\\"a, b\\\" \\\\ \\t\\n.\"\n"
      "empty = \"\"");
  ASSERT_TRUE(settings.ok()) << settings.status();
  std::vector<std::string> read;
  for (const FileSetting& setting : *settings) {
    read.push_back(std::to_string(setting.line) + " " + setting.key + "=" + setting.value);
  }
  EXPECT_THAT(read, testing::ElementsAre("3 listen=127.0.0.1:7411", "4 store=C:\\a # b", "5 insecure=true",
                                         "6 drain-grace=10s", "7 name=say \"a, b\" \\ \t\n.", "8 empty="));
}

TEST(SettingsFileTest, SaysTheLineAndWhatIsWrongButNotTheLine) {
  const std::pair<const char*, const char*> kCases[] = {
      {"\n[secret]\n", "line 2: sections"},
      {"secret", "line 1: no '='"},
      {"a = 1\nsecret", "line 2: no '='"},
      {"= secret", "line 1: the name"},
      {"se cret = 1", "line 1: the name"},
      {"a.secret = 1", "line 1: the name"},
      {"a =", "line 1: no value"},
      {"a = # secret", "line 1: no value"},
      {"a = [\"secret\"]", "line 1: a setting has one value"},
      {"a = {secret = 1}", "line 1: a setting has one value"},
      {"a = \"secret", "line 1: the closing quote"},
      {"a = 'secret", "line 1: the closing quote"},
      {"a = \"secret\\\"", "line 1: the closing quote"},
      {"a = \"\\u0041secret\"", "line 1: in \"…\" a backslash"},
      {"a = \"x\" secret", "line 1: there is something behind"},
      {"a = \"\"\"secret\"\"\"", "line 1: strings over several lines"},
      {"a = secret path", "line 1: a value with anything but"},
      {"a = /secret", "line 1: a value with anything but"},
      {"a = 1\nb = 2\na = 3", "line 3: a was set in line 1"},
      {"a = \"secret\x01\"", "line 1: there is a control character"},
  };
  for (const auto& each : kCases) {
    const auto settings = ParseSettingsFile(each.first);
    ASSERT_EQ(ReasonOf(settings.status()), Reason::INVALID_FIELD) << each.first;
    EXPECT_THAT(std::string(settings.status().message()), AllOf(StartsWith(each.second), Not(HasSubstr("secret"))));
  }
  EXPECT_FALSE(ParseSettingsFile(absl::string_view("a = \"x\0\"", 8)).ok());
}

TEST(SettingsFileTest, WhatQuoteSettingWritesIsReadBack) {
  for (const std::string value : {"", "a b", "a,b", "\"", "\\", "a#b", "'", "line\nand\ttab", "ü", "[x]"}) {
    const auto settings = ParseSettingsFile("key = " + QuoteSetting(value) + "  # origin");
    ASSERT_TRUE(settings.ok()) << value << settings.status();
    EXPECT_EQ(settings->at(0).value, value);
  }
}

}  // namespace
}  // namespace assent
