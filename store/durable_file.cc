#include "store/durable_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"

namespace assent {
namespace {

absl::Status SyncFolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const OwnedFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || fsync(fd.get()) != 0) return TransferFileError(errno, "force to disk", folder);
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckMayCreate(const std::string& path, bool force) {
  if (path.empty() || path.back() == '/') return absl::FailedPreconditionError("the path must name a file");
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? absl::OkStatus() : TransferFileError(errno, "look at", path);
  }
  if (S_ISDIR(info.st_mode)) return absl::FailedPreconditionError(absl::StrCat("'", path, "' is a folder"));
  if (force) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat("'", path, "' is there already, and was left as it is"));
}

absl::StatusOr<PartFile> PartFile::Open(const std::string& path, bool force, bool resume) {
  if (absl::Status status = CheckMayCreate(path, force); !status.ok()) return status;
  const std::string part_path = path + ".part";
  PartFile part(OwnedFd(open(part_path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600)), path, force);
  if (part.fd() < 0) return TransferFileError(errno, "create", part_path);
  struct stat info, named;
  if (flock(part.fd(), LOCK_EX | LOCK_NB) != 0 || fstat(part.fd(), &info) != 0 ||
      stat(part_path.c_str(), &named) != 0 || info.st_ino != named.st_ino || !S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat("'", part_path, "' is being written by somebody else"));
  }
  if (info.st_size == 0 || resume) return part;
  if (!force) {
    return absl::AlreadyExistsError(absl::StrCat(
        "'", part_path, "' is there, of a run that did not end: --resume continues it, --force begins anew"));
  }
  if (ftruncate(part.fd(), 0) != 0) return TransferFileError(errno, "empty", part_path);
  return part;
}

absl::Status PartFile::Publish() {
  if (fsync(fd()) != 0) return TransferFileError(errno, "force to disk", path_);
  const unsigned flags = force_ ? 0 : RENAME_NOREPLACE;
  if (renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, final_path_.c_str(), flags) != 0) {
    // Not every file system can do it without replacing.
    if (errno != EINVAL) return TransferFileError(errno, "rename", path_);
    if (absl::Status status = CheckMayCreate(final_path_, force_); !status.ok()) return status;
    if (rename(path_.c_str(), final_path_.c_str()) != 0) return TransferFileError(errno, "rename", path_);
  }
  return SyncFolderOf(final_path_);
}

}  // namespace assent
