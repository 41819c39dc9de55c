#include "coordinator/resource_password.h"

#include <sys/stat.h>

#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/errors.h"

namespace assent {
namespace {

constexpr int kMaxPasswordFileBytes = 4096;

}  // namespace

absl::StatusOr<std::string> PasswordOf(const v1::Resource& resource) {
  if (!resource.password_env().empty()) {
    const char* value = std::getenv(resource.password_env().c_str());
    if (value != nullptr) return std::string(value);
    return MakeError(Reason::INVALID_RESOURCE,
                     absl::StrCat("the coordinator's environment has no variable ", resource.password_env()),
                     {{"field", "resource.password_env"}});
  }
  if (resource.password_file().empty()) return std::string();
  // The path is the caller's: a device or a pipe would never end, and a folder is no empty password.
  struct stat info {};
  std::ifstream file;
  if (stat(resource.password_file().c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
      info.st_size <= kMaxPasswordFileBytes) {
    file.open(resource.password_file());
  }
  std::string password(kMaxPasswordFileBytes, '\0');
  if (!file.is_open() || file.read(&password[0], kMaxPasswordFileBytes).bad()) {
    return MakeError(Reason::INVALID_RESOURCE,
                     absl::StrCat("the coordinator cannot read a password (a file of at most ", kMaxPasswordFileBytes,
                                  " bytes) from ", resource.password_file()),
                     {{"field", "resource.password_file"}});
  }
  password.resize(static_cast<size_t>(file.gcount()));
  if (!password.empty() && password.back() == '\n') password.pop_back();
  return password;
}

}  // namespace assent
