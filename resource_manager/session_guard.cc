#include "resource_manager/session_guard.h"

#include <mariadb/mysql.h>

#include <atomic>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace assent {
namespace {

constexpr char kVariable[] = "@assent_branch";
constexpr int kErDataOutOfRange = 1690;

// Distinct for every branch of this process; far from those of other processes, which may share a proxy with it. Fits
// BIGINT.
uint64_t NewMark() {
  static std::atomic<uint64_t> next{[] {
    std::random_device random;
    return static_cast<uint64_t>(random()) << 30 | random() >> 2;
  }()};
  return ++next;
}

}  // namespace

SessionGuard::~SessionGuard() {
  if (sentinel_ != nullptr) mysql_stmt_close(sentinel_);
}

void SessionGuard::Arm(st_mysql* mysql) {
  if (sentinel_ == nullptr || Look() != Handle::kUntouched) {
    if (sentinel_ != nullptr) mysql_stmt_close(sentinel_);
    sentinel_ = mysql_stmt_init(mysql);
  }
  mysql_ = mysql;
  connection_id_ = mysql_thread_id(mysql);
  mark_ = NewMark();
}

SessionGuard::Handle SessionGuard::Look() const {
  if (sentinel_ == nullptr) return Handle::kUntouched;  // Out of memory, or not armed yet: the server will tell.
  if (mysql_stmt_errno(sentinel_) != 0) {
    return absl::StrContains(mysql_stmt_error(sentinel_), "mysql_close") ? Handle::kClosed : Handle::kReset;
  }
  return mysql_thread_id(mysql_) == connection_id_ ? Handle::kUntouched : Handle::kReset;
}

std::string SessionGuard::MarkSql() const { return absl::StrCat("SET ", kVariable, "=", mark_); }

// Of the errors that MariaDB's and MySQL's expressions can be made to raise in every sql_mode, an overflow is the
// cheapest: a subquery of two rows takes four times as long, and NULL is turned into a default by most variables. DO
// would swallow any of them.
std::string SessionGuard::CheckSql() const {
  return absl::StrCat("SET ", kVariable, "=", Checked(absl::StrCat(mark_)));
}

std::string SessionGuard::CheckSql(absl::string_view expression) const {
  return absl::StrCat("SELECT ", Checked(expression));
}

std::string SessionGuard::Checked(absl::string_view value) const {
  return absl::StrCat("IF(", kVariable, "=", mark_, ",", value, ",~0+1)");
}

bool SessionGuard::IsRefusal(int error_code) { return error_code == kErDataOutOfRange; }

}  // namespace assent
