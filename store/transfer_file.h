// The file that moves a store (protos/assent/store/v1/transfer.proto): lines to records and back, and how a file is
// known to be whole.
#ifndef ASSENT_STORE_TRANSFER_FILE_H_
#define ASSENT_STORE_TRANSFER_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "assent/store/v1/transfer.pb.h"

namespace assent {

using store::v1::StoreHeader;
using store::v1::StoreLine;
using store::v1::StoreTrailer;

// The newest format that this program knows.
constexpr int kTransferFormat = 2;
// Longer lines are refused: records are at most about 4 MiB, and JSON is no more than a few times as long.
constexpr size_t kMaxLineBytes = size_t{64} << 20;

// A file descriptor that is closed with its owner; those of the standard streams are not.
class OwnedFd {
 public:
  explicit OwnedFd(int fd = -1) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  OwnedFd& operator=(OwnedFd&& other) noexcept;
  ~OwnedFd();
  int get() const { return fd_; }

 private:
  int fd_;
};

// What the trailer says of the bytes before it.
class TransferChecksum {
 public:
  void Add(absl::string_view bytes);
  std::string Hex() const;

 private:
  uint64_t hash_ = 14695981039346656037u;
};

// One line, without its end. INVALID_FIELD if the message holds something that this program does not know: a newer one
// must export it.
absl::StatusOr<std::string> EncodeLine(const StoreLine& line);
// STORE_FILE_INVALID, without the line's number.
absl::StatusOr<StoreLine> DecodeLine(absl::string_view text);

// "cannot DOING 'PATH': why", with the code of errno's value.
absl::Status TransferFileError(int error, absl::string_view doing, const std::string& path);
// STORE_FILE_INVALID: "PATH, line N: problem".
absl::Status InvalidLine(const std::string& path, int64_t line, absl::string_view problem);

// Reads lines of whatever length up to kMaxLineBytes. Not thread-safe.
class LineReader {
 public:
  // Does not own the descriptor.
  LineReader(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

  // The next line, without its end; valid until the next call. False at the end. A last line without its end is given
  // too, with *complete false.
  absl::StatusOr<bool> Next(absl::string_view* line, bool* complete);
  // Lines given.
  int64_t line_number() const { return line_number_; }
  // Where the line that was given last ends in the file.
  int64_t end_offset() const { return end_offset_; }

 private:
  const int fd_;
  const std::string path_;
  std::string buffer_;
  size_t begin_ = 0;  // What of the buffer was given.
  bool at_end_ = false;
  int64_t line_number_ = 0;
  int64_t end_offset_ = 0;
};

// Writes lines. Not thread-safe.
class LineWriter {
 public:
  // Does not own the descriptor.
  LineWriter(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  // What is written already, before the descriptor's position.
  void AddWritten(absl::string_view line);
  absl::Status Write(absl::string_view line);
  absl::Status Flush();
  // Of everything before.
  std::string Checksum() const { return checksum_.Hex(); }

 private:
  const int fd_;
  const std::string path_;
  std::string buffer_;
  TransferChecksum checksum_;
};

// Reads a whole file in order and believes nothing: a file that is truncated, damaged or in another order is
// STORE_FILE_INVALID with the number of the line. Not thread-safe.
class TransferReader {
 public:
  // Reads the header. `path`: a file, or "-" for standard input.
  static absl::StatusOr<std::unique_ptr<TransferReader>> Open(const std::string& path);

  const StoreHeader& header() const { return header_; }
  const std::string& path() const { return path_; }
  // Looks whether the file is whole before anything of it is used, and begins again. Nothing, if it cannot be read
  // twice (a pipe).
  absl::Status CheckWhole();
  // How many transactions the trailer says there are; 0 before CheckWhole, or if that could not look.
  int64_t expected_globals() const { return expected_globals_; }
  // The next resource or transaction. False: that was all of it, and the trailer says so, too.
  absl::StatusOr<bool> Next(StoreLine* line);
  int64_t line_number() const { return reader_->line_number(); }

 private:
  TransferReader(OwnedFd fd, std::string path);
  absl::Status ReadHeader();
  absl::Status CheckOrder(const StoreLine& line);
  // The checksum and the number of lines before the trailer, and the trailer.
  absl::Status CheckTrailer(const StoreTrailer& trailer, const std::string& checksum);
  absl::Status Invalid(absl::string_view problem) const;

  const OwnedFd fd_;
  const std::string path_;
  std::unique_ptr<LineReader> reader_;
  TransferChecksum checksum_;
  StoreHeader header_;
  int64_t resources_ = 0;
  int64_t globals_ = 0;
  int64_t expected_globals_ = 0;
  std::string last_resource_;
};

}  // namespace assent

#endif  // ASSENT_STORE_TRANSFER_FILE_H_
