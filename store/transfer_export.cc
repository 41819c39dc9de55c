#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "base/version.h"
#include "store/durable_file.h"
#include "store/transfer.h"
#include "store/transfer_store.h"

namespace assent {
namespace {

// The lines of an export but the trailer, one after the other.
class LineSource {
 public:
  LineSource(Store* store, std::string cluster) : store_(store), cluster_(std::move(cluster)), cursor_(store) {}

  // Nobody may work on the store from here on.
  absl::Status Begin() {
    absl::StatusOr<std::vector<v1::Resource>> resources = store_->ReadResources();
    if (!resources.ok()) return resources.status();
    resources_ = *std::move(resources);
    const absl::StatusOr<StoreSizes> sizes = store_->Sizes();
    if (!sizes.ok()) return sizes.status();
    counts_.expected = sizes->records;
    // Not Horizon(): others may have deleted since the store was opened.
    const absl::StatusOr<absl::Time> horizon = store_->ReadHorizon();
    if (!horizon.ok()) return horizon.status();
    horizon_ = *horizon;
    return absl::OkStatus();
  }

  // False behind the last transaction.
  absl::StatusOr<bool> Next(StoreLine* line) {
    line->Clear();
    if (!header_given_) {
      StoreHeader* header = line->mutable_header();
      header->set_format(kTransferFormat);
      header->set_cluster(cluster_);
      header->set_store_id(store_->Id());
      header->set_program_version(kVersion);
      SetTime(absl::Now(), header->mutable_create_time());
      SetTime(horizon_, header->mutable_horizon());
      header_given_ = true;
      return true;
    }
    if (counts_.resources < static_cast<int64_t>(resources_.size())) {
      *line->mutable_resource() = resources_[static_cast<size_t>(counts_.resources++)];
      return true;
    }
    const absl::StatusOr<GlobalPtr> global = cursor_.Peek();
    if (!global.ok()) return global.status();
    if (*global == nullptr) return false;
    *line->mutable_global() = **global;
    cursor_.Advance();
    ++counts_.globals;
    return true;
  }

  StoreLine Trailer(const std::string& checksum) const {
    StoreLine line;
    line.mutable_trailer()->set_resources(counts_.resources);
    line.mutable_trailer()->set_globals(counts_.globals);
    line.mutable_trailer()->set_checksum(checksum);
    return line;
  }

  TransferCounts& counts() { return counts_; }

 private:
  Store* const store_;
  const std::string cluster_;
  StoreCursor cursor_;
  std::vector<v1::Resource> resources_;
  absl::Time horizon_;
  bool header_given_ = false;
  TransferCounts counts_;
};

absl::Status Changed(const std::string& path, int64_t line) {
  return MakeError(Reason::STORE_DIFFERS,
                   absl::StrCat(path, ", line ", line,
                                ": the store has changed since this was written, or is another one: begin anew with "
                                "--force"),
                   {{"path", path}, {"line", absl::StrCat(line)}});
}

// True if the line of the file is the source's. Headers differ in when and by what they were made.
bool Continues(const StoreLine& in_file, const StoreLine& in_store) {
  if (!in_file.has_header() || !in_store.has_header()) return SameRecord(in_file, in_store);
  return in_file.header().format() == in_store.header().format() &&
         in_file.header().cluster() == in_store.header().cluster() &&
         in_file.header().store_id() == in_store.header().store_id() &&
         SameRecord(in_file.header().horizon(), in_store.header().horizon());
}

// Compares what the file holds with what the source gives, and leaves both behind the last line that they have in
// common; what follows it in the file, unreadable or half written, is cut off. True if the file was whole.
absl::StatusOr<bool> SkipWritten(int fd, const std::string& path, LineSource* source, LineWriter* writer,
                                 absl::optional<StoreLine>* next, const TransferProgress& progress) {
  LineReader reader(fd, path);
  int64_t end = 0;
  bool whole = false;
  for (;;) {
    absl::string_view text;
    bool complete = false;
    const absl::StatusOr<bool> read = reader.Next(&text, &complete);
    if (!read.ok()) return read.status();
    if (!*read || !complete) break;
    StoreLine line;
    const absl::StatusOr<bool> more = source->Next(&line);
    if (!more.ok()) return more.status();
    if (!*more) line = source->Trailer(writer->Checksum());
    const absl::StatusOr<std::string> expected = EncodeLine(line);
    if (!expected.ok()) return expected.status();
    if (text != *expected) {
      const absl::StatusOr<StoreLine> found = DecodeLine(text);
      if (!found.ok()) {  // The machine went down while it was written.
        if (*more) *next = line;
        break;
      }
      if (!Continues(*found, line)) return Changed(path, reader.line_number());
    }
    end = reader.end_offset();
    whole = !*more;
    if (whole) break;
    writer->AddWritten(text);
    source->counts().found = source->counts().globals;
    if (progress != nullptr && source->counts().globals % 1000 == 0) progress(source->counts());
  }
  if (ftruncate(fd, end) != 0 || lseek(fd, end, SEEK_SET) != end) return TransferFileError(errno, "cut", path);
  return whole;
}

// Writes what is left, and the trailer. `next`: a line that the source has given already.
absl::Status WriteRest(LineSource* source, LineWriter* writer, absl::optional<StoreLine> next,
                       const TransferProgress& progress, const std::function<absl::Status()>& before_trailer) {
  for (;;) {
    StoreLine line;
    absl::StatusOr<bool> more = true;
    if (next) {
      line = *std::move(next);
      next.reset();
    } else {
      more = source->Next(&line);
    }
    if (!more.ok()) return more.status();
    if (!*more) {
      if (absl::Status status = before_trailer(); !status.ok()) return status;
      line = source->Trailer(writer->Checksum());
    }
    const absl::StatusOr<std::string> text = EncodeLine(line);
    if (!text.ok()) return text.status();
    if (absl::Status status = writer->Write(*text); !status.ok()) return status;
    if (!*more || line.has_trailer()) return writer->Flush();
    if (progress != nullptr && source->counts().globals % 1000 == 0) progress(source->counts());
  }
}

absl::StatusOr<TransferCounts> ExportTo(Store* store, const StoreSettings& settings, const ExportOptions& options) {
  const absl::StatusOr<StoreAlone> alone = StoreAlone::Begin(store);
  if (!alone.ok()) return alone.status();
  LineSource source(store, settings.cluster);
  if (absl::Status status = source.Begin(); !status.ok()) return status;
  const auto check = [&] { return alone->Check(store); };
  if (options.path == "-") {
    LineWriter writer(STDOUT_FILENO, "standard output");
    const absl::Status status = WriteRest(&source, &writer, absl::nullopt, options.progress, check);
    if (!status.ok()) return status;
    return source.counts();
  }
  absl::StatusOr<PartFile> part = PartFile::Open(options.path, options.force, options.resume);
  if (!part.ok()) return part.status();
  LineWriter writer(part->fd(), part->path());
  absl::optional<StoreLine> next;
  absl::StatusOr<bool> whole = SkipWritten(part->fd(), part->path(), &source, &writer, &next, options.progress);
  if (!whole.ok()) return whole.status();
  absl::Status status = *whole ? check() : WriteRest(&source, &writer, std::move(next), options.progress, check);
  if (status.ok()) status = part->Publish();
  if (!status.ok()) return status;
  return source.counts();
}

}  // namespace

absl::StatusOr<TransferCounts> ExportStore(StoreSettings settings, const ExportOptions& options) {
  settings.must_exist = true;
  // Before the store is opened: what can be refused at once.
  if (options.path != "-") {
    if (absl::Status status = CheckMayCreate(options.path, options.force); !status.ok()) return status;
  }
  absl::StatusOr<std::unique_ptr<Store>> store = OpenStore(settings);
  if (!store.ok()) return store.status();
  if ((*store)->MayHaveLostLazyWrites()) {
    return MakeError(Reason::STORE_NOT_SETTLED,
                     "the machine (or the store's server) has restarted since the store was used, and what was not "
                     "forced may be lost: start assentd on it once, which settles that, stop it, and export then");
  }
  return ExportTo(store->get(), settings, options);
}

}  // namespace assent
