// Counts the forced writes (fsync, fdatasync) of other processes, by a library that is preloaded into them.
#ifndef ASSENT_TESTS_PROFILE_SYNC_COUNTER_H_
#define ASSENT_TESTS_PROFILE_SYNC_COUNTER_H_

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "tests/fixtures/assentd.h"

namespace assent {

// A process that is started while this lives has its forced writes counted.
class SyncCounter {
 public:
  explicit SyncCounter(const std::string& path) : path_(path) {
    std::ofstream(path, std::ios::binary).write("\0\0\0\0\0\0\0\0", 8);
  }
  std::vector<std::string> Environment() const {
    const absl::StatusOr<std::string> shim = FindBuiltProgram("tests/profile/libsync_shim.so");
    CHECK(shim.ok()) << shim.status();
    return {"LD_PRELOAD=" + *shim, "SYNC_SHIM_COUNTER=" + path_};
  }
  int64_t Count() const {
    int64_t count = -1;
    std::ifstream(path_, std::ios::binary).read(reinterpret_cast<char*>(&count), sizeof(count));
    return count;
  }

 private:
  const std::string path_;
};

// Sets variables for the children that are started while it lives.
class ScopedEnvironment {
 public:
  explicit ScopedEnvironment(const std::vector<std::string>& variables) {
    for (const std::string& variable : variables) {
      const size_t equals = variable.find('=');
      names_.push_back(variable.substr(0, equals));
      setenv(names_.back().c_str(), variable.c_str() + equals + 1, 1);
    }
  }
  ~ScopedEnvironment() {
    for (const std::string& name : names_) unsetenv(name.c_str());
  }

 private:
  std::vector<std::string> names_;
};

}  // namespace assent

#endif  // ASSENT_TESTS_PROFILE_SYNC_COUNTER_H_
