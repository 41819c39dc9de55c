#include "store/store_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/errors.h"

namespace assent {
namespace {

absl::Status FileError(int error, absl::string_view what, const std::string& path) {
  Reason reason = Reason::STORE_UNAVAILABLE;
  absl::string_view remedy = "";
  if (error == EROFS || error == EACCES || error == EPERM) {
    reason = Reason::STORE_READ_ONLY;
    remedy = "; the store needs a file and a folder that it may write";
  } else if (error == ENOSPC || error == EDQUOT) {
    reason = Reason::STORE_FULL;
    remedy = "; make room on the disk";
  } else if (error == ENOENT) {
    remedy = "; create the folder first";
  }
  return MakeError(reason, absl::StrCat("cannot ", what, " '", path, "': ", strerror(error), remedy), {{"path", path}});
}

}  // namespace

absl::StatusOr<StoreLock> StoreLock::Acquire(const std::string& path) {
  const std::string lock_path = path + ".lock";
  const int fd = open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return FileError(errno, "open the lock file", lock_path);
  StoreLock lock(fd);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return FileError(errno, "lock", lock_path);
    char text[32] = {};
    const ssize_t size = pread(fd, text, sizeof(text) - 1, 0);
    std::string owner(text, size > 0 ? size : 0);
    absl::StripAsciiWhitespace(&owner);
    return MakeError(Reason::STORE_LOCKED,
                     absl::StrCat("the store '", path, "' is in use by process ", owner.empty() ? "?" : owner,
                                  ": one store belongs to one coordinator"),
                     {{"path", path}, {"pid", owner}});
  }
  // The pid is only for people; the lock is the flock. But a folder that cannot take a pid cannot take a store either.
  const std::string owner = absl::StrCat(getpid(), "\n");
  if (ftruncate(fd, 0) != 0 || pwrite(fd, owner.data(), owner.size(), 0) != static_cast<ssize_t>(owner.size())) {
    return FileError(errno, "write the lock file", lock_path);
  }
  return lock;
}

StoreLock::~StoreLock() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<std::string> ResolveStorePath(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos || path.back() == '/') {
    return MakeError(Reason::STORE_UNAVAILABLE, "the store's path must name a file", {});
  }
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) != nullptr) return std::string(resolved);
  if (errno != ENOENT) return FileError(errno, "use the store", path);
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (realpath(folder.c_str(), resolved) == nullptr) return FileError(errno, "use the store's folder", folder);
  return absl::StrCat(resolved, "/", slash == std::string::npos ? path : path.substr(slash + 1));
}

absl::StatusOr<int64_t> CheckStoreFile(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return int64_t{0};
    return FileError(errno, "look at the store", path);
  }
  if (!S_ISREG(info.st_mode)) {
    return MakeError(Reason::STORE_UNAVAILABLE, absl::StrCat("'", path, "' is not a file: give the path of a file"),
                     {{"path", path}});
  }
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return FileError(errno, "open the store for writing", path);
  close(fd);
  return int64_t{info.st_size};
}

std::string ReadBootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

}  // namespace assent
