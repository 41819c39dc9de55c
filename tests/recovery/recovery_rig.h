// RecoveryRig: two private database servers, a coordinator, and participants that can be stopped at any step, with what
// one needs to see how that ends.
#ifndef ASSENT_TESTS_RECOVERY_RECOVERY_RIG_H_
#define ASSENT_TESTS_RECOVERY_RECOVERY_RIG_H_

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "assent/v1/coordinator_service.pb.h"
#include "assent/v1/resource_service.pb.h"
#include "base/xid.h"
#include "resource_manager/branch_session.h"
#include "tests/fixtures/assentd.h"
#include "tests/fixtures/coordinator_api.h"
#include "tests/fixtures/databases.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {

// One branch as a participant runs it, step by step, with nothing done by itself. The row (gtrid) in `app.t` is its
// work.
struct RawBranch {
  int server = 0;
  Xid xid;
  std::unique_ptr<BranchSession> session;
  st_mysql* handle{};      // The session's own, for what no application should do with it; null if it is not MariaDB's.
  bool witnessed = false;  // It has left its witness.
};

// Thread-compatible.
class RecoveryRig {
 public:
  struct Options {
    // Of both database servers, whose engines are EngineOfServer's (databases.h).
    DatabaseOptions database_options;
    Assentd::Options coordinator;
    // Resources "a" and "b" are registered with these.
    absl::Duration lease = absl::Seconds(2);
    absl::Duration orphan_age = absl::Seconds(1);
    v1::KillAfterLease kill_after_lease = v1::KILL_AFTER_LEASE_ENABLED;
    v1::Witness witness = v1::WITNESS_ENABLED;
  };
  static absl::StatusOr<std::unique_ptr<RecoveryRig>> Start(Options options);
  static absl::StatusOr<std::unique_ptr<RecoveryRig>> Start() { return Start(Options()); }

  Assentd& coordinator() { return *coordinator_; }
  PrivateDatabase& database(int i) { return *databases_[static_cast<size_t>(i)]; }
  CoordinatorApi& api() { return *api_; }
  // "a" or "b".
  static std::string ResourceName(int server) { return server == 0 ? "a" : "b"; }
  // Registers the resource, with whatever `change` makes of it.
  absl::Status Register(int server, const std::function<void(v1::RegisterResourceRequest*)>& change = {});
  absl::Status RegisterAt(CoordinatorApi* api, int server,
                          const std::function<void(v1::RegisterResourceRequest*)>& change = {});
  static v1::Session Describe(const BranchSession& session);
  // The file with the account's password.
  std::string PasswordFile(int server) const {
    return absl::StrCat(folder_.path(), "/", ResourceName(server), ".password");
  }
  // A folder that goes with the object.
  const std::string& folder() const { return folder_.path(); }
  // A new session as the participants' account. Dies if the server is not there.
  std::unique_ptr<BranchSession> Connect(int server);
  absl::StatusOr<std::unique_ptr<BranchSession>> TryConnect(int server);

  // --- A transaction, step by step. They die on errors that no test provokes. ---
  // Begins one with a branch on each of the servers; the coordinator knows their sessions.
  std::vector<RawBranch> Begin(const std::vector<int>& servers, absl::Duration timeout = absl::Minutes(5));
  absl::StatusOr<v1::CreateGlobalResponse> TryCreate(const v1::CreateGlobalRequest& request);
  // Creates one with a branch on each of the servers, and no more.
  absl::StatusOr<v1::CreateGlobalResponse> TryBegin(const std::vector<int>& servers);
  // What no pool must do: resets the session of a prepared branch. Then, if `finish` (not on PostgreSQL, which would do
  // it), what nobody else must do: commits it from another session, which the server answers with OK without doing it.
  // Closes the session, and waits for its end.
  void Reset(RawBranch* branch, bool finish = false);
  // The branch's start, a row, the witness (unless the resource or its engine has none), and its PREPARE.
  void Prepare(RawBranch* branch);
  // Votes PREPARED for all, with their sessions.
  absl::Status Vote(const std::vector<RawBranch>& branches);
  absl::StatusOr<v1::GlobalStatus> Finalize(const std::string& gtrid, v1::Decision decision,
                                            v1::Wait wait = v1::WAIT_DECIDED);
  absl::Status Complete(const RawBranch& branch, v1::Completion::Result result);
  // All of it up to the decision: prepared, voted, decided.
  std::vector<RawBranch> Decided(const std::vector<int>& servers, v1::Decision decision);

  // --- What one sees. ---
  v1::GetGlobalResponse Global(const std::string& gtrid);
  v1::Branch BranchOf(const std::string& gtrid, const std::string& bqual);
  // Waits until the transaction is in this state; answers what was last seen, so that a failure tells.
  v1::GetGlobalResponse Await(const std::string& gtrid, v1::Global::State state,
                              absl::Duration patience = absl::Seconds(60));
  // Waits until it is true.
  static bool AwaitTrue(const std::function<bool()>& condition, absl::Duration patience = absl::Seconds(60));
  // Committed rows of a transaction on a server.
  int Rows(int server, const std::string& gtrid);
  // None where the engine leaves none.
  int Witnesses(int server, const std::string& gtrid);
  int AllWitnesses(int server);
  // What the server lists as prepared; -1 if it does not answer.
  int Prepared(int server);
  absl::StatusOr<v1::RecoverResponse> Recover(bool dry_run = false, const std::string& resource = "");
  absl::StatusOr<v1::ListInDoubtResponse> InDoubt(bool with_locks = false);
  absl::StatusOr<v1::ResolveBranchResponse> Resolve(const v1::ResolveBranchRequest& request);
  // A statement as the server's account; dies if it fails.
  QueryResult Sql(int server, absl::string_view sql);
  static bool IsPostgres(int server) { return EngineOfServer(server) == v1::Resource::ENGINE_POSTGRESQL; }
  static bool IsMySql(int server) { return EngineOfServer(server) == v1::Resource::ENGINE_MYSQL; }
  // PREPARE lets go of a branch on that server: whoever holds it can always be told by looking, and anybody may finish
  // it at once. So leases count only until then, and nothing makes a ghost of it.
  static bool Detaches(int server) { return IsPostgres(server) || IsMySql(server); }
  // As a DBA finishes a branch by hand.
  static std::string FinishSql(int server, const Xid& xid, bool commit);
  // Writes the row of a branch, whether it is there or not; waits for whoever has it locked.
  static std::string OverwriteSql(int server, const Xid& xid);

 private:
  explicit RecoveryRig(TempDir folder, Options options) : folder_(std::move(folder)), options_(std::move(options)) {}

  const TempDir folder_;
  const Options options_;
  std::array<std::unique_ptr<PrivateDatabase>, 2> databases_;
  std::unique_ptr<Assentd> coordinator_;
  std::unique_ptr<CoordinatorApi> api_;
};

}  // namespace assent

#endif  // ASSENT_TESTS_RECOVERY_RECOVERY_RIG_H_
