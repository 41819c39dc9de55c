#include "base/errors.h"

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::ElementsAreArray;

std::string RetryText(Retry retry) {
  switch (retry) {
    case Retry::kNever: return "never";
    case Retry::kSameCall: return "same call";
    case Retry::kWholeTransaction: return "whole transaction";
  }
  return "?";
}

// The rows of docs/errors.md that begin with a reason, cell by cell.
std::vector<std::vector<std::string>> DocumentedRows() {
  std::ifstream file("docs/errors.md");
  std::vector<std::vector<std::string>> rows;
  bool in_table = false;
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(line, "## ")) in_table = line == "## Every reason";
    if (!in_table || !absl::StartsWith(line, "| `")) continue;
    std::vector<std::string> cells = absl::StrSplit(line, '|');
    for (std::string& cell : cells) absl::StripAsciiWhitespace(&cell);
    rows.push_back({cells.begin() + 1, cells.end() - 1});
  }
  return rows;
}

TEST(ErrorsDocTest, HoldsExactlyTheReasonsOfTheCodeInTheirOrder) {
  std::vector<std::string> in_code;
  for (const ReasonInfo& info : AllReasons()) {
    in_code.push_back(
        absl::StrCat("`", info.name, "` `", absl::StatusCodeToString(info.code), "` ", RetryText(info.retry)));
  }
  std::vector<std::string> documented;
  for (const std::vector<std::string>& row : DocumentedRows()) {
    ASSERT_EQ(row.size(), 6u) << row[0];
    for (const std::string& cell : row) EXPECT_FALSE(cell.empty()) << row[0];
    documented.push_back(absl::StrCat(row[0], " ", row[1], " ", row[2]));
  }
  EXPECT_THAT(documented, ElementsAreArray(in_code));
}

TEST(ErrorsTest, AStatusCarriesItsReasonAndMetadata) {
  for (const ReasonInfo& info : AllReasons()) {
    const absl::Status status = MakeError(info.reason, "what happened", {{"gtrid", "g"}});
    EXPECT_EQ(status.code(), info.code);
    EXPECT_EQ(status.message(), "what happened");
    EXPECT_EQ(ReasonOf(status), info.reason);
    EXPECT_EQ(InfoOf(info.reason).name, info.name);
    EXPECT_EQ(MetadataOf(status), (std::map<std::string, std::string>{{"gtrid", "g"}}));
  }
}

TEST(ErrorsTest, ForeignErrorsHaveNoReason) {
  EXPECT_EQ(ReasonOf(absl::OkStatus()), absl::nullopt);
  EXPECT_EQ(ReasonOf(absl::UnavailableError("x")), absl::nullopt);
  google::rpc::ErrorInfo info;
  info.set_reason("GLOBAL_NOT_FOUND");
  info.set_domain("somebody.else");
  absl::Status foreign = absl::NotFoundError("x");
  foreign.SetPayload("type.googleapis.com/google.rpc.ErrorInfo", absl::Cord(info.SerializeAsString()));
  EXPECT_EQ(ReasonOf(foreign), absl::nullopt);
  info.set_domain("assent.v1");
  info.set_reason("OF_A_NEWER_VERSION");
  absl::Status newer = absl::NotFoundError("x");
  newer.SetPayload("type.googleapis.com/google.rpc.ErrorInfo", absl::Cord(info.SerializeAsString()));
  EXPECT_EQ(ReasonOf(newer), absl::nullopt);
  absl::Status broken = absl::NotFoundError("x");
  broken.SetPayload("type.googleapis.com/google.rpc.ErrorInfo", absl::Cord("\xff\xff"));
  EXPECT_EQ(ReasonOf(broken), absl::nullopt);
  EXPECT_TRUE(MetadataOf(broken).empty());
}

TEST(ErrorsTest, TextHoldsCodeReasonAndMessageButNoPayload) {
  EXPECT_EQ(ToText(absl::OkStatus()), "OK");
  EXPECT_EQ(ToText(MakeError(Reason::GLOBAL_NOT_FOUND, "gone", {{"gtrid", "g"}})), "NOT_FOUND GLOBAL_NOT_FOUND: gone");
  EXPECT_EQ(ToText(absl::UnavailableError("no")), "UNAVAILABLE: no");
}

TEST(ErrorsTest, RetryFollowsTheReasonAndElseTheCode) {
  EXPECT_TRUE(IsRetryable(MakeError(Reason::STORE_UNAVAILABLE, "")));
  EXPECT_TRUE(IsRetryable(MakeError(Reason::TOO_MANY_OPEN_GLOBALS, "")));
  EXPECT_TRUE(IsRetryable(absl::UnavailableError("")));
  // UNAVAILABLE by code, but repeating the statement alone would lose the branch's earlier work.
  EXPECT_FALSE(IsRetryable(MakeError(Reason::DATABASE_UNREACHABLE, "")));
  EXPECT_FALSE(IsRetryable(absl::ResourceExhaustedError("")));
  EXPECT_FALSE(IsRetryable(absl::OkStatus()));
}

}  // namespace
}  // namespace assent
