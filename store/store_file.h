// The store's place in the file system: where it is, whether it may be used, and that nobody else uses it.
#ifndef ASSENT_STORE_STORE_FILE_H_
#define ASSENT_STORE_STORE_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace assent {

// The exclusive right to use a store: a flock on `<path>.lock` for as long as the object lives. The kernel gives it up
// with the process, however that dies. The file stays behind (removing it would let two owners in) and names its owner.
class StoreLock {
 public:
  // STORE_LOCKED names the process that has it. STORE_READ_ONLY, STORE_FULL or STORE_UNAVAILABLE if the lock file
  // cannot be written.
  static absl::StatusOr<StoreLock> Acquire(const std::string& path);

  StoreLock(StoreLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  StoreLock& operator=(StoreLock&&) = delete;
  ~StoreLock();

 private:
  explicit StoreLock(int fd) : fd_(fd) {}
  int fd_;
};

// The absolute path with all links resolved, so that one file has one lock whatever name it is opened by. The file need
// not exist, its folder must: else STORE_UNAVAILABLE with words that say what is missing.
absl::StatusOr<std::string> ResolveStorePath(const std::string& path);

// The size of the file in bytes; 0 if there is none. STORE_READ_ONLY if it exists and cannot be written,
// STORE_UNAVAILABLE if it is no file or cannot be opened at all.
absl::StatusOr<int64_t> CheckStoreFile(const std::string& path);

// What distinguishes this boot of the machine from every other; empty if it cannot be read.
std::string ReadBootId();

}  // namespace assent

#endif  // ASSENT_STORE_STORE_FILE_H_
