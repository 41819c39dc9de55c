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

// `owner_fd` is the file that names the owner if there is one.
absl::Status Lock(int fd, int owner_fd, const std::string& path) {
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return absl::OkStatus();
  if (errno != EWOULDBLOCK) return FileError(errno, "lock", path);
  char text[32] = {};
  const ssize_t size = pread(owner_fd, text, sizeof(text) - 1, 0);
  std::string owner(text, size > 0 ? size : 0);
  absl::StripAsciiWhitespace(&owner);
  return MakeError(Reason::STORE_LOCKED,
                   absl::StrCat("the store '", path, "' is in use by process ", owner.empty() ? "?" : owner,
                                ": one store belongs to one coordinator"),
                   {{"path", path}, {"pid", owner}});
}

}  // namespace

absl::StatusOr<StoreLock> StoreLock::Acquire(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return FileError(errno, "look at the store", path);
  if (!S_ISREG(info.st_mode)) {
    return MakeError(Reason::STORE_UNAVAILABLE, absl::StrCat("'", path, "' is not a file: give the path of a file"),
                     {{"path", path}});
  }
  if (info.st_nlink > 1) {
    return MakeError(Reason::STORE_UNAVAILABLE,
                     absl::StrCat("the store '", path, "' has ", info.st_nlink,
                                  " names (hard links), and its log lies beside only one of them: remove the others"),
                     {{"path", path}});
  }
  StoreLock lock;
  const std::string lock_path = path + ".lock";
  lock.name_fd_ = open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock.name_fd_ < 0) return FileError(errno, "open the lock file", lock_path);
  if (absl::Status status = Lock(lock.name_fd_, lock.name_fd_, path); !status.ok()) return status;
  lock.file_fd_ = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (lock.file_fd_ < 0) return FileError(errno, "open the store for writing", path);
  if (absl::Status status = Lock(lock.file_fd_, lock.name_fd_, path); !status.ok()) return status;
  // The pid is only for people; the locks are the flocks. But a folder that cannot take a pid cannot take a store
  // either.
  const std::string owner = absl::StrCat(getpid(), "\n");
  if (ftruncate(lock.name_fd_, 0) != 0 ||
      pwrite(lock.name_fd_, owner.data(), owner.size(), 0) != static_cast<ssize_t>(owner.size())) {
    return FileError(errno, "write the lock file", lock_path);
  }
  if (fstat(lock.file_fd_, &info) != 0) return FileError(errno, "look at the store", path);
  lock.store_bytes_ = info.st_size;
  return lock;
}

StoreLock::~StoreLock() {
  if (file_fd_ >= 0) close(file_fd_);
  if (name_fd_ >= 0) close(name_fd_);
}

absl::StatusOr<std::string> ResolveStorePath(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos || path.back() == '/') {
    return MakeError(Reason::STORE_UNAVAILABLE, "the store's path must name a file", {});
  }
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) != nullptr) return std::string(resolved);
  if (errno != ENOENT) return FileError(errno, "use the store", path);
  // Only a file that exists can be resolved: `path` may be a link to where the store is to be.
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return FileError(errno, "create the store", path);
  close(fd);
  if (realpath(path.c_str(), resolved) == nullptr) return FileError(errno, "use the store", path);
  return std::string(resolved);
}

absl::Status CheckStoreExists(const std::string& path) {
  struct stat info;
  const bool found = stat(path.c_str(), &info) == 0;
  if (!found && errno != ENOENT) return FileError(errno, "look at the store", path);
  if (found && info.st_size > 0) return absl::OkStatus();
  return MakeError(Reason::STORE_UNAVAILABLE, absl::StrCat("there is no store at '", path, "': give the path of one"),
                   {{"path", path}});
}

std::string ReadBootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

}  // namespace assent
