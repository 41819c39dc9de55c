#include "base/settings.h"

#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SettingsTest : public testing::Test {
 protected:
  SettingsTest() : settings_("toyd", "a toy", "TOYD") {
    settings_.Add("listen", &listen_, "where");
    settings_.Add("insecure", &insecure_, "no TLS");
    settings_.Add("max-open", &max_open_, 1, 100, "how many");
    settings_.Add("drain-grace", &grace_, absl::ZeroDuration(), absl::Hours(1), "how long");
    settings_.AddChoice("log-level", &level_, {"info", "error"}, "what");
  }

  ~SettingsTest() override {
    for (const std::string& path : files_) unlink(path.c_str());
  }

  // The path of a new file with this text.
  std::string File(const std::string& text) {
    const char* folder = getenv("TEST_TMPDIR");
    files_.push_back(
        absl::StrCat(folder == nullptr ? "/tmp" : folder, "/settings_test_", getpid(), "_", files_.size()));
    std::ofstream(files_.back()) << text;
    return files_.back();
  }

  absl::StatusOr<Settings::Next> Resolve(std::vector<const char*> args, std::vector<const char*> env = {}) {
    args.insert(args.begin(), "toyd");
    env.push_back(nullptr);
    return settings_.Resolve(static_cast<int>(args.size()), args.data(), env.data(), out_);
  }

  // The words of a refusal.
  std::string Refusal(std::vector<const char*> args, std::vector<const char*> env = {}) {
    const absl::StatusOr<Settings::Next> next = Resolve(std::move(args), std::move(env));
    EXPECT_EQ(ReasonOf(next.status()), Reason::INVALID_FIELD);
    return std::string(next.status().message());
  }

  std::string listen_ = "127.0.0.1:1";
  bool insecure_ = false;
  int64_t max_open_ = 10;
  absl::Duration grace_ = absl::Seconds(10);
  std::string level_ = "info";
  Settings settings_;
  std::ostringstream out_;
  std::vector<std::string> files_;
};

TEST_F(SettingsTest, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  const std::string file = File("listen = \"file\"\nmax-open = 3\ndrain-grace = \"3s\"\n");
  const std::string config = "--config=" + file;
  ASSERT_EQ(*Resolve({config.c_str(), "--listen=flag"}, {"TOYD_LISTEN=env", "TOYD_MAX_OPEN=2"}), Settings::Next::kRun);
  EXPECT_EQ(listen_, "flag");
  EXPECT_EQ(max_open_, 2);
  EXPECT_EQ(grace_, absl::Seconds(3));
  EXPECT_EQ(level_, "info");
  EXPECT_THAT(settings_.Print(), AllOf(HasSubstr("listen = \"flag\"  # the command line\n"),
                                       HasSubstr("max-open = \"2\"  # the environment\n"),
                                       HasSubstr(absl::StrCat("drain-grace = \"3s\"  # ", file, " line 3\n")),
                                       HasSubstr("log-level = \"info\"  # default\n")));
}

TEST_F(SettingsTest, FlagsTakeTheirValueInBothSpellings) {
  ASSERT_TRUE(Resolve({"--listen", "x=y", "--insecure", "--drain-grace=1500ms", "--max-open=5", "--max-open=6"}).ok());
  EXPECT_EQ(listen_, "x=y");
  EXPECT_TRUE(insecure_);
  EXPECT_EQ(grace_, absl::Milliseconds(1500));
  EXPECT_EQ(max_open_, 6);  // The last one counts.
  ASSERT_TRUE(Resolve({"--insecure=false"}).ok());
  EXPECT_FALSE(insecure_);
}

TEST_F(SettingsTest, TheFilesNameMayComeFromTheEnvironmentAndAFlagWins) {
  const std::string one = "TOYD_CONFIG=" + File("listen = 'one'"), two = "--config=" + File("listen = 'two'");
  ASSERT_TRUE(Resolve({}, {one.c_str()}).ok());
  EXPECT_EQ(listen_, "one");
  ASSERT_TRUE(Resolve({two.c_str()}, {one.c_str()}).ok());
  EXPECT_EQ(listen_, "two");
}

TEST_F(SettingsTest, UnknownNamesAreErrorsThatNameTheNearestKnownOne) {
  const std::string file = "--config=" + File("lisen = 'x'");
  EXPECT_THAT(Refusal({file.c_str()}),
              AllOf(HasSubstr("unknown setting lisen in "), HasSubstr(" line 1; "), HasSubstr("did you mean listen?")));
  EXPECT_THAT(Refusal({}, {"TOYD_MAXOPEN=1"}),
              AllOf(HasSubstr("TOYD_MAXOPEN in the environment"), HasSubstr("did you mean max-open?")));
  EXPECT_THAT(Refusal({"--lissten=x"}),
              AllOf(HasSubstr("--lissten in the command line"), HasSubstr("did you mean listen?")));
  // The value that follows must not be what is complained about.
  EXPECT_THAT(Refusal({"--lissten", "x"}), HasSubstr("unknown setting --lissten"));
  EXPECT_THAT(Refusal({"--cnofig", "x"}), HasSubstr("did you mean config?"));
  EXPECT_THAT(Refusal({"--frobnicate=1"}), HasSubstr("see toyd --help"));
  EXPECT_THAT(Refusal({"--q=1"}), HasSubstr("see toyd --help"));
  EXPECT_EQ(MetadataOf(Resolve({"--lissten=x"}).status())["field"], "lissten");
  EXPECT_EQ(listen_, "127.0.0.1:1");
}

TEST_F(SettingsTest, VariablesOfOthersAreNotLookedAt) {
  ASSERT_TRUE(Resolve({}, {"TOYDX_LISTEN=a", "TOY_LISTEN=b", "PATH=/bin", "TOYD=c", "TOYD_LISTEN"}).ok());
  EXPECT_EQ(listen_, "127.0.0.1:1");
}

TEST_F(SettingsTest, BadValuesSayWhereTheyCameFromAndWhatIsRight) {
  const std::string file = "--config=" + File("\nmax-open = 0");
  EXPECT_THAT(Refusal({file.c_str()}),
              AllOf(HasSubstr("max-open in "), HasSubstr(" line 2 must be a whole number from 1 to 100, not '0'")));
  EXPECT_EQ(Refusal({}, {"TOYD_MAX_OPEN=many"}),
            "TOYD_MAX_OPEN in the environment must be a whole number from 1 to 100, not 'many'");
  EXPECT_EQ(Refusal({"--max-open=101"}),
            "--max-open in the command line must be a whole number from 1 to 100, not '101'");
  EXPECT_EQ(Refusal({"--insecure=yes"}), "--insecure in the command line must be true or false, not 'yes'");
  EXPECT_EQ(Refusal({"--log-level=loud"}), "--log-level in the command line must be one of info, error, not 'loud'");
  for (const char* duration : {"--drain-grace=10", "--drain-grace=-1s", "--drain-grace=inf", "--drain-grace=61m"}) {
    EXPECT_THAT(Refusal({duration}), HasSubstr("must be a duration like 500ms, 30s or 5m, from 0 to 1h")) << duration;
  }
  EXPECT_THAT(Refusal({"--max-open=99999999999999999999"}), HasSubstr("must be a whole number"));
}

TEST_F(SettingsTest, ABadValueIsAnErrorAlsoWhereABetterSourceWins) {
  EXPECT_THAT(Refusal({"--max-open=5"}, {"TOYD_MAX_OPEN=x"}), HasSubstr("TOYD_MAX_OPEN"));
}

TEST_F(SettingsTest, FilesThatCannotBeReadAreErrors) {
  EXPECT_THAT(Refusal({"--config=/nowhere/at/all"}), HasSubstr("cannot read the file /nowhere/at/all"));
  EXPECT_THAT(Refusal({"--config=/tmp"}), HasSubstr("cannot read the file /tmp"));
  const std::string section = "--config=" + File("listen = 'x'\n[server]\n");
  EXPECT_THAT(Refusal({section.c_str()}), HasSubstr("line 2: sections are not supported"));
  const std::string empty = "--config=" + File("");
  EXPECT_TRUE(Resolve({empty.c_str()}).ok());
}

TEST_F(SettingsTest, StrayArgumentsAreErrors) {
  EXPECT_THAT(Refusal({"serve"}), HasSubstr("unexpected argument 'serve'"));
  EXPECT_THAT(Refusal({"-x"}), HasSubstr("unexpected argument '-x'"));
  EXPECT_THAT(Refusal({"--"}), HasSubstr("unexpected argument '--'"));
  EXPECT_THAT(Refusal({"--listen"}), HasSubstr("--listen needs a value"));
  EXPECT_THAT(Refusal({"--config"}), HasSubstr("--config needs a value"));
}

TEST_F(SettingsTest, HelpVersionAndPrintSayAndExit) {
  EXPECT_EQ(*Resolve({"--help"}), Settings::Next::kExit);
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("--drain-grace"), HasSubstr("how long [10s]"), HasSubstr("(info, error)"),
                                HasSubstr("TOYD_LISTEN")));
  out_.str("");
  EXPECT_EQ(*Resolve({"--version"}), Settings::Next::kExit);
  EXPECT_THAT(out_.str(), testing::StartsWith("toyd 0."));
  EXPECT_EQ(*Resolve({"--check-config"}), Settings::Next::kCheckConfig);
  EXPECT_EQ(Resolve({"--check-config", "--max-open=0"}).ok(), false);
}

TEST_F(SettingsTest, WhatIsPrintedIsAFileThatSaysTheSame) {
  ASSERT_EQ(*Resolve({"--print-config", "--listen=a \"b\", \\c # d", "--insecure", "--drain-grace=90s"}),
            Settings::Next::kExit);
  const std::string printed = out_.str();
  const std::string config = "--config=" + File(printed);
  listen_ = "";
  insecure_ = false;
  grace_ = absl::ZeroDuration();
  const absl::StatusOr<Settings::Next> next = Resolve({config.c_str()});
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(listen_, "a \"b\", \\c # d");
  EXPECT_TRUE(insecure_);
  EXPECT_EQ(grace_, absl::Seconds(90));
  EXPECT_THAT(settings_.Names(), ElementsAre("listen", "insecure", "max-open", "drain-grace", "log-level"));
}

}  // namespace
}  // namespace assent
