// Files that are there whole or not at all: written as `<path>.part`, forced to disk, then renamed.
#ifndef ASSENT_STORE_DURABLE_FILE_H_
#define ASSENT_STORE_DURABLE_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/transfer_file.h"

namespace assent {

// OK if a file may be made there; ALREADY_EXISTS unless `force`.
absl::Status CheckMayCreate(const std::string& path, bool force);

// The part of a file that is being written; locked against another writer. What was written stays there if it is not
// published.
class PartFile {
 public:
  // Opens `<path>.part` (readable by its owner only). One that is there already is continued with `resume`, emptied
  // with `force`, and else ALREADY_EXISTS, as `path` itself is unless `force`. FAILED_PRECONDITION if somebody writes
  // it.
  static absl::StatusOr<PartFile> Open(const std::string& path, bool force, bool resume);

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }  // Of the part.

  // Forces it to disk, gives it its name, and forces the folder.
  absl::Status Publish();

 private:
  PartFile(OwnedFd fd, std::string final_path, bool force)
      : fd_(std::move(fd)), final_path_(std::move(final_path)), path_(final_path_ + ".part"), force_(force) {}

  OwnedFd fd_;
  std::string final_path_;
  std::string path_;
  bool force_;
};

}  // namespace assent

#endif  // ASSENT_STORE_DURABLE_FILE_H_
