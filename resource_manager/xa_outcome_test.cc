#include "resource_manager/xa_outcome.h"

#include <set>
#include <string>
#include <vector>

#include "base/errors.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using O = XaOutcome;

constexpr XaVerb kVerbs[] = {XaVerb::kStart,          XaVerb::kEnd,      XaVerb::kPrepare, XaVerb::kCommit,
                             XaVerb::kCommitOnePhase, XaVerb::kRollback, XaVerb::kRecover};

struct Row {
  int code;
  O outcomes[7];  // In the order of kVerbs.
};

// Every error number that the server was seen to answer an XA verb with, for every verb.
constexpr Row kTable[] = {
    //       START             END               PREPARE           COMMIT            ONE PHASE         ROLLBACK RECOVER
    {0, {O::kOk, O::kOk, O::kOk, O::kOk, O::kOk, O::kOk, O::kOk}},
    {1397,
     {O::kUnknownXid, O::kUnknownXid, O::kUnknownXid, O::kUnknownXid, O::kUnknownXid, O::kUnknownXid, O::kUnknownXid}},
    {kSessionResetCode,
     {O::kSessionReset, O::kSessionReset, O::kSessionReset, O::kSessionReset, O::kSessionReset, O::kSessionReset,
      O::kSessionReset}},
    {1398, {O::kInvalid, O::kInvalid, O::kInvalid, O::kInvalid, O::kInvalid, O::kInvalid, O::kInvalid}},
    {1064, {O::kInvalid, O::kInvalid, O::kInvalid, O::kInvalid, O::kInvalid, O::kInvalid, O::kInvalid}},
    {1399,
     {O::kWrongState, O::kWrongState, O::kWrongState, O::kWrongState, O::kWrongState, O::kWrongState, O::kWrongState}},
    {1400, {O::kOutside, O::kOutside, O::kOutside, O::kOutside, O::kOutside, O::kOutside, O::kOutside}},
    {1401, {O::kError, O::kError, O::kError, O::kError, O::kError, O::kError, O::kError}},
    {1402,
     {O::kRolledBack, O::kWrongState, O::kRolledBack, O::kRolledBack, O::kRolledBack, O::kRolledBack, O::kRolledBack}},
    {1613,
     {O::kRolledBack, O::kWrongState, O::kRolledBack, O::kRolledBack, O::kRolledBack, O::kRolledBack, O::kRolledBack}},
    {1614,
     {O::kRolledBack, O::kWrongState, O::kRolledBack, O::kRolledBack, O::kRolledBack, O::kRolledBack, O::kRolledBack}},
    {1440,
     {O::kDuplicateXid, O::kDuplicateXid, O::kDuplicateXid, O::kDuplicateXid, O::kDuplicateXid, O::kDuplicateXid,
      O::kDuplicateXid}},
    {1235,
     {O::kNotSupported, O::kNotSupported, O::kNotSupported, O::kNotSupported, O::kNotSupported, O::kNotSupported,
      O::kNotSupported}},
    {1205, {O::kError, O::kError, O::kRolledBack, O::kRetryLater, O::kRolledBack, O::kRetryLater, O::kError}},
    {1317, {O::kError, O::kError, O::kRolledBack, O::kRetryLater, O::kRolledBack, O::kRetryLater, O::kError}},
    {1969, {O::kError, O::kError, O::kRolledBack, O::kRetryLater, O::kRolledBack, O::kRetryLater, O::kError}},
    {1290, {O::kError, O::kError, O::kError, O::kRetryLater, O::kError, O::kRetryLater, O::kError}},
    {1213, {O::kError, O::kError, O::kError, O::kError, O::kError, O::kError, O::kError}},
};

TEST(XaOutcomeTest, Table) {
  for (const Row& row : kTable) {
    for (size_t i = 0; i < 7; ++i) {
      EXPECT_EQ(OutcomeOf(kVerbs[i], row.code), row.outcomes[i]) << ToString(kVerbs[i]) << " " << row.code;
    }
  }
}

TEST(XaOutcomeTest, LostConnectionsAreLostForEveryVerb) {
  for (int code :
       {2002, 2003, 2006, 2013, 2014, 2026, 2027, 2055, 5001, 1053, 1152, 1153, 1158, 1159, 1160, 1161, 1184, 1927}) {
    for (XaVerb verb : kVerbs) EXPECT_EQ(OutcomeOf(verb, code), O::kConnectionLost) << code;
  }
}

// Only success may ever read as success: an error number nobody has thought of proves nothing.
TEST(XaOutcomeTest, UnknownErrorsProveNothing) {
  std::set<int> known;
  for (const Row& row : kTable) known.insert(row.code);
  for (int code = 1; code < 6000; ++code) {
    if (known.count(code) > 0 || IsConnectionLost(code)) continue;
    for (XaVerb verb : kVerbs) ASSERT_EQ(OutcomeOf(verb, code), O::kError) << code;
  }
}

TEST(XaOutcomeTest, NamesAreDistinct) {
  std::set<std::string> names;
  for (XaVerb verb : kVerbs) names.insert(std::string(ToString(verb)));
  for (int i = 0; i <= static_cast<int>(O::kError); ++i) names.insert(std::string(ToString(static_cast<O>(i))));
  EXPECT_EQ(names.size(), 7u + static_cast<size_t>(O::kError) + 1);
  EXPECT_EQ(names.count("?"), 0u);
}

TEST(XaOutcomeTest, Statuses) {
  EXPECT_TRUE(StatusOf(XaVerb::kCommit, O::kOk, DbError{}).ok());
  const auto reason = [](O outcome, int code) {
    return ReasonOf(StatusOf(XaVerb::kStart, outcome, DbError{code, "XAE09", "x"}));
  };
  EXPECT_EQ(reason(O::kOutside, 1400), Reason::SESSION_IN_TRANSACTION);
  EXPECT_EQ(reason(O::kNotSupported, 1235), Reason::XA_NOT_SUPPORTED);
  EXPECT_EQ(reason(O::kConnectionLost, 2006), Reason::DATABASE_UNREACHABLE);
  EXPECT_EQ(reason(O::kWrongState, 1399), Reason::DATABASE_ERROR);
  EXPECT_EQ(MetadataOf(StatusOf(XaVerb::kStart, O::kOutside, DbError{1400, "XAE09", "x"}))["outcome"], "OUTSIDE");
}

}  // namespace
}  // namespace assent
