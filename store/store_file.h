// The store's place in the file system: where it is, whether it may be used, and that nobody else uses it.
#ifndef ASSENT_STORE_STORE_FILE_H_
#define ASSENT_STORE_STORE_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace assent {

// The exclusive right to use a store: a flock on the database itself, so that no other name of it lets a second owner
// in, and one on `<path>.lock`, so that a database that was removed does not make room for another while its log is
// still in use. The kernel gives them up with the process, however that dies. `<path>.lock` stays behind (removing it
// would let two owners in) and names its owner. SQLite's own locks are fcntl's, which flock does not touch; but closing
// any descriptor of the database ends those of this process, so the lock must outlive all connections.
class StoreLock {
 public:
  // Of an existing file. STORE_LOCKED names the process that has it. STORE_READ_ONLY, STORE_FULL or STORE_UNAVAILABLE
  // if the store or its lock file cannot be written, or if it is no file or has more than one name (hard links).
  static absl::StatusOr<StoreLock> Acquire(const std::string& path);

  StoreLock(StoreLock&& other) noexcept
      : name_fd_(other.name_fd_), file_fd_(other.file_fd_), store_bytes_(other.store_bytes_) {
    other.name_fd_ = other.file_fd_ = -1;
  }
  StoreLock& operator=(StoreLock&&) = delete;
  ~StoreLock();

  // The size of the store when it was locked.
  int64_t store_bytes() const { return store_bytes_; }

 private:
  StoreLock() = default;
  int name_fd_ = -1;
  int file_fd_ = -1;
  int64_t store_bytes_ = 0;
};

// The absolute path with all links resolved. Creates the file, empty, if there is none (where a dangling link points
// to); its folder must exist: else STORE_UNAVAILABLE with words that say what is missing.
absl::StatusOr<std::string> ResolveStorePath(const std::string& path);

// OK if there is a file with something in it: a store may be there. STORE_UNAVAILABLE if not. Makes nothing.
absl::Status CheckStoreExists(const std::string& path);

// What distinguishes this boot of the machine from every other; empty if it cannot be read.
std::string ReadBootId();

}  // namespace assent

#endif  // ASSENT_STORE_STORE_FILE_H_
