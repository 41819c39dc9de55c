// What the tests of assentctl share: a real coordinator, the real program, and short ways to run it.
#ifndef ASSENT_TESTS_ASSENTCTL_ASSENTCTL_TEST_BASE_H_
#define ASSENT_TESTS_ASSENTCTL_ASSENTCTL_TEST_BASE_H_

#include <memory>
#include <string>
#include <vector>

#include "google/protobuf/struct.pb.h"
#include "tests/daemon/daemon_test_base.h"
#include "tests/fixtures/private_mariadb.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {

// Empty if there is no such file.
std::string ReadAll(const std::string& path);

class AssentctlTest : public DaemonTest {
 protected:
  void SetUp() override;

  // Runs it with ASSENTCTL_ADDRESS and typed_ on its standard input; out_ and err_ are what it said. The shell takes
  // the two apart. The exit code.
  int Ctl(const std::vector<std::string>& args, const std::vector<std::string>& environment = {});

  // Runs a shell's command; what it says is in out_.
  int Shell(const std::string& shell, const std::vector<std::string>& args);

  // What it said, as JSON.
  google::protobuf::Struct Json();

  // `resources register` of a real server; the exit code.
  int RegisterServer(const std::string& name, const PrivateMariaDb& server, const std::vector<std::string>& flags = {});
  // Where the coordinator reads that server's password.
  std::string PasswordFile(const std::string& resource) const { return folder_->path() + "/password." + resource; }

  void Begin(const std::string& gtrid, const std::vector<std::string>& bquals);
  void RollBack(const std::string& gtrid, const std::string& reason);

  // Further settings of the coordinator; a test class that needs some sets them before SetUp.
  Assentd::Options daemon_options_;
  std::unique_ptr<TempDir> folder_;
  std::string program_;
  std::string typed_;
  std::string out_, err_;
  int runs_ = 0;
};

}  // namespace assent

#endif  // ASSENT_TESTS_ASSENTCTL_ASSENTCTL_TEST_BASE_H_
