#include "store/transfer_file.h"

#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/errors.h"
#include "base/xid.h"

namespace assent {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;
constexpr size_t kMaxNameBytes = 255;

absl::Status Bad(absl::string_view problem) { return MakeError(Reason::STORE_FILE_INVALID, problem); }

absl::Status CheckGlobal(const v1::Global& global) {
  if (!IsValidId(global.gtrid())) return Bad("the transaction's gtrid is none");
  if (global.revision() < 1) return Bad("the transaction has no revision");
  if (!v1::Global::State_IsValid(global.state()) || global.state() == v1::Global::STATE_UNSPECIFIED) {
    return Bad("the transaction has no state that this program knows");
  }
  if (global.request_id().size() > kMaxNameBytes) return Bad("the transaction's request id is too long");
  return absl::OkStatus();
}

}  // namespace

OwnedFd& OwnedFd::operator=(OwnedFd&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

OwnedFd::~OwnedFd() {
  if (fd_ > STDERR_FILENO) close(fd_);
}

void TransferChecksum::Add(absl::string_view bytes) {
  for (const unsigned char byte : bytes) hash_ = (hash_ ^ byte) * 1099511628211u;
}

std::string TransferChecksum::Hex() const { return absl::StrFormat("%016x", hash_); }

absl::Status TransferFileError(int error, absl::string_view doing, const std::string& path) {
  const std::string text = absl::StrCat("cannot ", doing, " '", path, "': ", strerror(error));
  if (error == ENOENT) return absl::NotFoundError(text);
  if (error == ENOSPC || error == EDQUOT) {
    return absl::ResourceExhaustedError(absl::StrCat(text, "; make room, and continue"));
  }
  return absl::FailedPreconditionError(text);
}

absl::Status InvalidLine(const std::string& path, int64_t line, absl::string_view problem) {
  return MakeError(Reason::STORE_FILE_INVALID, absl::StrCat(path, ", line ", line, ": ", problem),
                   {{"path", path}, {"line", absl::StrCat(line)}});
}

absl::StatusOr<std::string> EncodeLine(const StoreLine& line) {
  StoreLine known = line;
  known.DiscardUnknownFields();
  if (known.ByteSizeLong() != line.ByteSizeLong()) {
    return MakeError(Reason::INVALID_FIELD,
                     absl::StrCat("the record of '", line.has_global() ? line.global().gtrid() : line.resource().name(),
                                  "' holds fields that this program does not know: use the newer one that wrote it"));
  }
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(line, &text);
  if (status.ok()) return text;
  return MakeError(Reason::STORE_CORRUPT, absl::StrCat("the record of '", line.global().gtrid(),
                                                       "' cannot be written as JSON: ", std::string(status.message())));
}

absl::StatusOr<StoreLine> DecodeLine(absl::string_view text) {
  StoreLine line;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = false;
  const auto status = google::protobuf::util::JsonStringToMessage({text.data(), text.size()}, &line, options);
  if (!status.ok()) {
    return Bad(absl::StrCat("is not one of an export, or of a newer program's: ",
                            std::string(status.message()).substr(0, 200)));
  }
  if (line.line_case() == StoreLine::LINE_NOT_SET) return Bad("is empty");
  return line;
}

absl::StatusOr<bool> LineReader::Next(absl::string_view* line, bool* complete) {
  size_t searched = begin_;
  for (;;) {
    const size_t end = buffer_.find('\n', searched);
    if (end != std::string::npos || (at_end_ && begin_ < buffer_.size())) {
      *complete = end != std::string::npos;
      *line = absl::string_view(buffer_).substr(begin_, *complete ? end - begin_ : std::string::npos);
      begin_ += line->size() + (*complete ? 1 : 0);
      end_offset_ += static_cast<int64_t>(line->size()) + (*complete ? 1 : 0);
      ++line_number_;
      return true;
    }
    if (at_end_) return false;
    if (buffer_.size() - begin_ > kMaxLineBytes) return InvalidLine(path_, line_number_ + 1, "is too long");
    buffer_.erase(0, begin_);
    begin_ = 0;
    searched = buffer_.size();
    buffer_.resize(searched + kChunkBytes);
    ssize_t size;
    do {
      size = read(fd_, &buffer_[searched], kChunkBytes);
    } while (size < 0 && errno == EINTR);
    buffer_.resize(searched + (size > 0 ? static_cast<size_t>(size) : 0));
    if (size < 0) return TransferFileError(errno, "read", path_);
    at_end_ = size == 0;
  }
}

void LineWriter::AddWritten(absl::string_view line) {
  checksum_.Add(line);
  checksum_.Add("\n");
}

absl::Status LineWriter::Write(absl::string_view line) {
  AddWritten(line);
  absl::StrAppend(&buffer_, line, "\n");
  return buffer_.size() < kChunkBytes ? absl::OkStatus() : Flush();
}

absl::Status LineWriter::Flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t size = write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return TransferFileError(errno, "write", path_);
    done += static_cast<size_t>(size);
  }
  buffer_.clear();
  return absl::OkStatus();
}

TransferReader::TransferReader(OwnedFd fd, std::string path)
    : fd_(std::move(fd)), path_(std::move(path)), reader_(std::make_unique<LineReader>(fd_.get(), path_)) {}

absl::StatusOr<std::unique_ptr<TransferReader>> TransferReader::Open(const std::string& path) {
  OwnedFd fd(path == "-" ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return TransferFileError(errno, "open", path);
  std::unique_ptr<TransferReader> reader(
      new TransferReader(std::move(fd), path == "-" ? std::string("standard input") : path));
  if (absl::Status status = reader->ReadHeader(); !status.ok()) return status;
  return reader;
}

absl::Status TransferReader::Invalid(absl::string_view problem) const {
  return InvalidLine(path_, reader_->line_number(), problem);
}

absl::Status TransferReader::ReadHeader() {
  absl::string_view text;
  bool complete = false;
  const absl::StatusOr<bool> read = reader_->Next(&text, &complete);
  if (!read.ok()) return read.status();
  if (!*read) return InvalidLine(path_, 1, "there is nothing: it is not a file of `assentctl store export`");
  // A newer format may say more in its header; that it is a newer one must be readable all the same.
  StoreLine line;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  const auto parsed = google::protobuf::util::JsonStringToMessage({text.data(), text.size()}, &line, options);
  if (!parsed.ok() || !line.has_header() || line.header().format() < 1 || !complete) {
    return Invalid("is not the header of a file of `assentctl store export`");
  }
  if (line.header().format() > kTransferFormat) {
    return Invalid(absl::StrCat("the file has the format ", line.header().format(), ", this program knows up to ",
                                kTransferFormat, ": use the newer one that wrote it"));
  }
  if (!IsValidCluster(line.header().cluster())) return Invalid("names no cluster");
  const std::string& id = line.header().store_id();
  if (id.size() > kMaxIdBytes || !IsValidId(id)) return Invalid("names no store");
  header_ = line.header();
  checksum_.Add(text);
  checksum_.Add("\n");
  return absl::OkStatus();
}

absl::Status TransferReader::CheckWhole() {
  struct stat info;
  if (fstat(fd_.get(), &info) != 0 || !S_ISREG(info.st_mode) || fd_.get() == STDIN_FILENO) return absl::OkStatus();
  if (lseek(fd_.get(), 0, SEEK_SET) != 0) return TransferFileError(errno, "read", path_);
  LineReader reader(fd_.get(), path_);
  TransferChecksum checksum;
  std::string before, last;
  absl::string_view text;
  bool complete = true;
  for (;;) {
    const absl::StatusOr<bool> read = reader.Next(&text, &complete);
    if (!read.ok()) return read.status();
    if (!*read) break;
    before = checksum.Hex();
    last = std::string(text);
    checksum.Add(text);
    checksum.Add("\n");
  }
  const absl::StatusOr<StoreLine> line = DecodeLine(last);
  if (!line.ok() || !line->has_trailer() || !complete) {
    return InvalidLine(path_, reader.line_number(),
                       "is the last one and not the trailer: the file is not whole (nothing of it was used)");
  }
  if (line->trailer().checksum() != before ||
      line->trailer().resources() + line->trailer().globals() != reader.line_number() - 2) {
    return InvalidLine(path_, reader.line_number(),
                       "the trailer does not fit the lines before it: the file is damaged (nothing of it was used)");
  }
  expected_globals_ = line->trailer().globals();
  if (lseek(fd_.get(), 0, SEEK_SET) != 0) return TransferFileError(errno, "read", path_);
  reader_ = std::make_unique<LineReader>(fd_.get(), path_);
  checksum_ = TransferChecksum();
  return ReadHeader();
}

absl::StatusOr<bool> TransferReader::Next(StoreLine* line) {
  absl::string_view text;
  bool complete = false;
  absl::StatusOr<bool> read = reader_->Next(&text, &complete);
  if (!read.ok()) return read;
  if (!*read || !complete) {
    return InvalidLine(path_, reader_->line_number() + (*read ? 0 : 1), "the file ends here, without a trailer");
  }
  absl::StatusOr<StoreLine> decoded = DecodeLine(text);
  if (!decoded.ok()) return Invalid(decoded.status().message());
  *line = *std::move(decoded);
  if (line->has_trailer()) {
    const absl::Status status = CheckTrailer(line->trailer(), checksum_.Hex());
    if (!status.ok()) return status;
    read = reader_->Next(&text, &complete);
    if (read.ok() && *read) return Invalid("stands behind the trailer");
    return read;
  }
  checksum_.Add(text);
  checksum_.Add("\n");
  if (absl::Status status = CheckOrder(*line); !status.ok()) return Invalid(status.message());
  return true;
}

absl::Status TransferReader::CheckOrder(const StoreLine& line) {
  if (line.has_header()) return Bad("is a second header");
  if (line.has_global()) {
    ++globals_;
    return CheckGlobal(line.global());
  }
  const std::string& name = line.resource().name();
  if (name.empty() || name.size() > kMaxNameBytes) return Bad("the resource has no name");
  if (globals_ > 0) return Bad("is a resource behind a transaction");
  if (resources_ > 0 && name <= last_resource_) return Bad("the resources are not in order");
  ++resources_;
  last_resource_ = name;
  return absl::OkStatus();
}

absl::Status TransferReader::CheckTrailer(const StoreTrailer& trailer, const std::string& checksum) {
  if (trailer.resources() == resources_ && trailer.globals() == globals_ && trailer.checksum() == checksum) {
    return absl::OkStatus();
  }
  return Invalid("the trailer does not fit the lines before it: the file is damaged");
}

}  // namespace assent
