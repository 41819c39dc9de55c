// Short ways for tests to ask a session of any engine.
#ifndef ASSENT_RESOURCE_MANAGER_SESSION_TEST_UTIL_H_
#define ASSENT_RESOURCE_MANAGER_SESSION_TEST_UTIL_H_

#include <atomic>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "base/xid.h"
#include "gtest/gtest.h"
#include "resource_manager/branch_session.h"

namespace assent {

inline QueryResult MustQuery(BranchSession* session, absl::string_view sql) {
  QueryResult result = session->Query(sql);
  EXPECT_TRUE(result.ok()) << sql << ": " << result.error.code << " " << result.error.sqlstate << " "
                           << result.error.message;
  return result;
}

// The first value of the first row; "NULL" for none.
inline std::string One(BranchSession* session, absl::string_view sql) {
  const QueryResult result = MustQuery(session, sql);
  if (result.rows().empty() || !result.rows()[0][0]) return "NULL";
  return *result.rows()[0][0];
}

// Another one at each call.
inline Xid NewXid() {
  static std::atomic<int> next{0};
  return Xid{NewGtrid("test", absl::Now()), absl::StrCat("b", ++next)};
}

// True if the server lists it as prepared.
inline bool IsListed(BranchSession* session, const Xid& xid) {
  const auto xids = session->Recover();
  EXPECT_TRUE(xids.ok()) << xids.status();
  for (const RecoveredXid& listed : *xids) {
    if (listed.gtrid == xid.gtrid && listed.bqual == xid.bqual && listed.format_id == kFormatId) return true;
  }
  return false;
}

}  // namespace assent

#endif  // ASSENT_RESOURCE_MANAGER_SESSION_TEST_UTIL_H_
