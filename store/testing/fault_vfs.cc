#include "store/testing/fault_vfs.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"

namespace assent {
namespace {

constexpr int64_t kSectorBytes = 512;

std::string ReadWholeFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

}  // namespace

// SQLite allocates szOsFile bytes: this, and behind it the real VFS's file.
struct FaultVfs::File {
  sqlite3_file base;
  FaultVfs* vfs;
  FaultVfs::FileState* state;  // Null: not tracked (temporary files). Kept alive by files_ or a deleted file's owner.
  sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
};

struct FaultVfs::Methods {
  static File* Of(sqlite3_file* file) { return reinterpret_cast<File*>(file); }
  static sqlite3_file* Real(sqlite3_file* file) { return Of(file)->real(); }
  static FaultVfs* Of(sqlite3_vfs* vfs) { return static_cast<FaultVfs*>(vfs->pAppData); }
  static sqlite3_vfs* Real(sqlite3_vfs* vfs) { return Of(vfs)->real_; }

  // Files.
  static int Close(sqlite3_file* file) { return Real(file)->pMethods->xClose(Real(file)); }
  static int Read(sqlite3_file* file, void* to, int bytes, sqlite3_int64 offset) {
    return Real(file)->pMethods->xRead(Real(file), to, bytes, offset);
  }
  static int Write(sqlite3_file* file, const void* from, int bytes, sqlite3_int64 offset) {
    File* const self = Of(file);
    if (self->state == nullptr) return self->real()->pMethods->xWrite(self->real(), from, bytes, offset);
    Fault fault;
    const int struck = self->vfs->Strike(self->state->kind, Op::kWrite, &fault);
    if (struck != SQLITE_OK && !fault.after_work) return struck;
    {
      MutexLock lock(&self->vfs->mu_);
      self->state->unsynced.push_back({offset, std::string(static_cast<const char*>(from), bytes), false});
    }
    const int code = self->real()->pMethods->xWrite(self->real(), from, bytes, offset);
    return struck != SQLITE_OK ? struck : code;
  }
  static int Truncate(sqlite3_file* file, sqlite3_int64 size) {
    File* const self = Of(file);
    if (self->state != nullptr) {
      MutexLock lock(&self->vfs->mu_);
      self->state->unsynced.push_back({size, "", true});
    }
    return self->real()->pMethods->xTruncate(self->real(), size);
  }
  static int Sync(sqlite3_file* file, int flags) {
    File* const self = Of(file);
    if (self->state == nullptr) return self->real()->pMethods->xSync(self->real(), flags);
    Fault fault;
    const int struck = self->vfs->Strike(self->state->kind, Op::kSync, &fault);
    MutexLock lock(&self->vfs->mu_);
    if (struck != SQLITE_OK && fault.forget_unsynced) self->state->unsynced.clear();
    if (struck != SQLITE_OK && !fault.after_work) return struck;
    // The model stands for the disk: really syncing would only take time.
    for (const FaultVfs::Write& write : self->state->unsynced) Apply(write, &self->state->durable);
    self->state->unsynced.clear();
    return struck;
  }
  static int FileSize(sqlite3_file* file, sqlite3_int64* size) {
    return Real(file)->pMethods->xFileSize(Real(file), size);
  }
  static int Lock(sqlite3_file* file, int level) { return Real(file)->pMethods->xLock(Real(file), level); }
  static int Unlock(sqlite3_file* file, int level) { return Real(file)->pMethods->xUnlock(Real(file), level); }
  static int CheckReservedLock(sqlite3_file* file, int* out) {
    return Real(file)->pMethods->xCheckReservedLock(Real(file), out);
  }
  static int FileControl(sqlite3_file* file, int op, void* arg) {
    return Real(file)->pMethods->xFileControl(Real(file), op, arg);
  }
  static int SectorSize(sqlite3_file* file) { return Real(file)->pMethods->xSectorSize(Real(file)); }
  static int DeviceCharacteristics(sqlite3_file* file) {
    return Real(file)->pMethods->xDeviceCharacteristics(Real(file));
  }
  static int ShmMap(sqlite3_file* file, int page, int size, int extend, void volatile** out) {
    return Real(file)->pMethods->xShmMap(Real(file), page, size, extend, out);
  }
  static int ShmLock(sqlite3_file* file, int offset, int n, int flags) {
    return Real(file)->pMethods->xShmLock(Real(file), offset, n, flags);
  }
  static void ShmBarrier(sqlite3_file* file) { Real(file)->pMethods->xShmBarrier(Real(file)); }
  static int ShmUnmap(sqlite3_file* file, int remove) { return Real(file)->pMethods->xShmUnmap(Real(file), remove); }
  // No memory maps of the files themselves: writes through them would not be seen here.
  static int Fetch(sqlite3_file*, sqlite3_int64, int, void** out) {
    *out = nullptr;
    return SQLITE_OK;
  }
  static int Unfetch(sqlite3_file*, sqlite3_int64, void*) { return SQLITE_OK; }

  // The file system.
  static int Open(sqlite3_vfs* vfs, const char* path, sqlite3_file* file, int flags, int* out_flags) {
    FaultVfs* const self = Of(vfs);
    File* const opened = Of(file);
    opened->base.pMethods = nullptr;
    opened->vfs = self;
    opened->state = nullptr;
    MutexLock lock(&self->mu_);
    if (self->read_only_ && (flags & SQLITE_OPEN_MAIN_DB) != 0) {
      flags = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
    }
    if (path != nullptr && (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL)) != 0) {
      std::shared_ptr<FileState>& state = self->files_[path];
      if (state == nullptr) {
        state = std::make_shared<FileState>();
        if (!self->distrust_logs_ || (flags & SQLITE_OPEN_WAL) == 0) state->durable = ReadWholeFile(path);
        state->kind = (flags & SQLITE_OPEN_MAIN_DB) != 0 ? FileKind::kDatabase
                      : (flags & SQLITE_OPEN_WAL) != 0   ? FileKind::kLog
                                                         : FileKind::kOther;
      }
      opened->state = state.get();
    }
    memset(static_cast<void*>(opened->real()), 0, self->real_->szOsFile);
    const int code = self->real_->xOpen(self->real_, path, opened->real(), flags, out_flags);
    if (code == SQLITE_OK) opened->base.pMethods = &kFile;
    return code;
  }
  static int Delete(sqlite3_vfs* vfs, const char* path, int sync_folder) {
    {
      MutexLock lock(&Of(vfs)->mu_);
      const auto found = Of(vfs)->files_.find(path);
      if (found != Of(vfs)->files_.end()) {
        // Emptied, not erased: an open file may still point to it.
        found->second->durable.clear();
        found->second->unsynced.clear();
      }
    }
    return Real(vfs)->xDelete(Real(vfs), path, sync_folder);
  }
  static int Access(sqlite3_vfs* vfs, const char* path, int flags, int* out) {
    return Real(vfs)->xAccess(Real(vfs), path, flags, out);
  }
  static int FullPathname(sqlite3_vfs* vfs, const char* path, int size, char* out) {
    return Real(vfs)->xFullPathname(Real(vfs), path, size, out);
  }
  static int Randomness(sqlite3_vfs* vfs, int bytes, char* out) {
    return Real(vfs)->xRandomness(Real(vfs), bytes, out);
  }
  static int Sleep(sqlite3_vfs* vfs, int microseconds) { return Real(vfs)->xSleep(Real(vfs), microseconds); }
  static int CurrentTime(sqlite3_vfs* vfs, double* out) { return Real(vfs)->xCurrentTime(Real(vfs), out); }
  static int GetLastError(sqlite3_vfs* vfs, int bytes, char* out) {
    return Real(vfs)->xGetLastError(Real(vfs), bytes, out);
  }
  static int CurrentTimeInt64(sqlite3_vfs* vfs, sqlite3_int64* out) {
    return Real(vfs)->xCurrentTimeInt64(Real(vfs), out);
  }

  static const sqlite3_io_methods kFile;
};

const sqlite3_io_methods FaultVfs::Methods::kFile = {3,
                                                     &Close,
                                                     &Read,
                                                     &Write,
                                                     &Truncate,
                                                     &Sync,
                                                     &FileSize,
                                                     &Lock,
                                                     &Unlock,
                                                     &CheckReservedLock,
                                                     &FileControl,
                                                     &SectorSize,
                                                     &DeviceCharacteristics,
                                                     &ShmMap,
                                                     &ShmLock,
                                                     &ShmBarrier,
                                                     &ShmUnmap,
                                                     &Fetch,
                                                     &Unfetch};

FaultVfs::FaultVfs() : real_(sqlite3_vfs_find(nullptr)), vfs_(std::make_unique<sqlite3_vfs>()) {
  static std::atomic<int> next{0};
  name_ = absl::StrCat("fault-", next.fetch_add(1));
  *vfs_ = sqlite3_vfs{};
  vfs_->iVersion = 2;
  vfs_->szOsFile = static_cast<int>(sizeof(File)) + real_->szOsFile;
  vfs_->mxPathname = real_->mxPathname;
  vfs_->zName = name_.c_str();
  vfs_->pAppData = this;
  vfs_->xOpen = &Methods::Open;
  vfs_->xDelete = &Methods::Delete;
  vfs_->xAccess = &Methods::Access;
  vfs_->xFullPathname = &Methods::FullPathname;
  vfs_->xRandomness = &Methods::Randomness;
  vfs_->xSleep = &Methods::Sleep;
  vfs_->xCurrentTime = &Methods::CurrentTime;
  vfs_->xGetLastError = &Methods::GetLastError;
  vfs_->xCurrentTimeInt64 = &Methods::CurrentTimeInt64;
  sqlite3_vfs_register(vfs_.get(), /*makeDflt=*/0);
}

FaultVfs::~FaultVfs() { sqlite3_vfs_unregister(vfs_.get()); }

void FaultVfs::Inject(const Fault& fault) {
  MutexLock lock(&mu_);
  faults_.push_back(fault);
}

void FaultVfs::Heal() {
  MutexLock lock(&mu_);
  faults_.clear();
  read_only_ = false;
}

void FaultVfs::MakeReadOnly() {
  MutexLock lock(&mu_);
  read_only_ = true;
}

void FaultVfs::DistrustExistingLogs() {
  MutexLock lock(&mu_);
  distrust_logs_ = true;
}

int64_t FaultVfs::Count(FileKind kind, Op op) {
  MutexLock lock(&mu_);
  return counts_[{kind, op}];
}

int64_t FaultVfs::CountSyncs() {
  return Count(FileKind::kDatabase, Op::kSync) + Count(FileKind::kLog, Op::kSync) + Count(FileKind::kOther, Op::kSync);
}

void FaultVfs::ResetCounts() {
  MutexLock lock(&mu_);
  counts_.clear();
}

void FaultVfs::Before(int64_t n, std::function<void()> action) {
  MutexLock lock(&mu_);
  action_in_ = n;
  action_ = std::move(action);
}

int FaultVfs::Strike(FileKind kind, Op op, Fault* hit) {
  std::function<void()> action;
  {
    MutexLock lock(&mu_);
    if (action_in_ > 0 && --action_in_ == 0) action.swap(action_);
  }
  if (action) action();

  MutexLock lock(&mu_);
  ++counts_[{kind, op}];
  for (Fault& fault : faults_) {
    if (fault.kind != kind || fault.op != op || fault.times == 0) continue;
    if (fault.skip > 0) {
      --fault.skip;
      continue;
    }
    --fault.times;
    *hit = fault;
    return fault.code;
  }
  return SQLITE_OK;
}

void FaultVfs::Apply(const Write& write, std::string* content) {
  if (write.truncate) {
    if (content->size() > static_cast<size_t>(write.offset)) content->resize(write.offset);
    return;
  }
  content->resize(std::max<size_t>(content->size(), write.offset + write.bytes.size()));
  content->replace(write.offset, write.bytes.size(), write.bytes);
}

void FaultVfs::SaveAfterPowerLoss(const std::string& folder, uint64_t seed) {
  std::mt19937_64 random(seed);
  MutexLock lock(&mu_);
  for (const auto& [path, state] : files_) {
    std::string content = state->durable;
    for (Write write : state->unsynced) {
      const uint64_t dice = seed == 0 ? 0 : random() % 4;
      if (dice == 0) continue;
      if (dice == 1 && !write.truncate) {
        // Torn: it reached the disk up to the end of some sector.
        const int64_t sectors = (write.bytes.size() + kSectorBytes - 1) / kSectorBytes;
        const int64_t end = (write.offset / kSectorBytes + random() % (sectors + 1)) * kSectorBytes;
        write.bytes.resize(std::min<int64_t>(write.bytes.size(), std::max<int64_t>(0, end - write.offset)));
        if (write.bytes.empty()) continue;
      }
      Apply(write, &content);
    }
    const std::string target = absl::StrCat(folder, "/", std::filesystem::path(path).filename().string());
    if (content.empty()) continue;
    std::ofstream(target, std::ios::binary) << content;
  }
}

}  // namespace assent
