// Preloaded into a process (LD_PRELOAD) it counts the forced writes of that process and its children, and can slow them
// down.
//
//   SYNC_SHIM_COUNTER   a file of 8 bytes; its native-endian integer counts every fsync, fdatasync and syncfs call
//   SYNC_SHIM_DELAY_US  microseconds to wait in each of them
//   SYNC_SHIM_HOLD      a path: while there is a file, each of them waits (a disk that hangs)
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>

namespace {

std::atomic<uint64_t>* Counter() {
  static std::atomic<uint64_t>* const kCounter = []() -> std::atomic<uint64_t>* {
    const char* path = std::getenv("SYNC_SHIM_COUNTER");
    if (path == nullptr) return nullptr;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return nullptr;
    void* memory = mmap(nullptr, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return memory == MAP_FAILED ? nullptr : static_cast<std::atomic<uint64_t>*>(memory);
  }();
  return kCounter;
}

void Note() {
  static const char* const kDelay = std::getenv("SYNC_SHIM_DELAY_US");
  if (std::atomic<uint64_t>* counter = Counter()) counter->fetch_add(1);
  if (kDelay != nullptr) usleep(static_cast<useconds_t>(std::atoi(kDelay)));
  static const char* const kHold = std::getenv("SYNC_SHIM_HOLD");
  while (kHold != nullptr && access(kHold, F_OK) == 0) usleep(1000);
}

using Sync = int (*)(int);

}  // namespace

extern "C" {

int fsync(int fd) {
  static const auto kReal = reinterpret_cast<Sync>(dlsym(RTLD_NEXT, "fsync"));
  Note();
  return kReal(fd);
}

int fdatasync(int fd) {
  static const auto kReal = reinterpret_cast<Sync>(dlsym(RTLD_NEXT, "fdatasync"));
  Note();
  return kReal(fd);
}

int syncfs(int fd) {
  static const auto kReal = reinterpret_cast<Sync>(dlsym(RTLD_NEXT, "syncfs"));
  Note();
  return kReal(fd);
}

}  // extern "C"
