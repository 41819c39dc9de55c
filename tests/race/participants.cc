#include "tests/race/participants.h"

#include <mariadb/mysql.h>
#include <postgresql/libpq-fe.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/timestamp.h"
#include "participant_sdk/cpp/branch.h"
#include "resource_manager/witness_table.h"

namespace assent {
namespace {

constexpr absl::Duration kCallPatience = absl::Seconds(60);
// How long a reset session is used for something else: often shorter, sometimes longer than the lease.
constexpr double kLongestLingering = 1.5;
// How long some connections stay idle before they are closed.
constexpr double kLongestPause = 0.7;

bool IsPostgres(v1::Resource::Engine engine) { return engine == v1::Resource::ENGINE_POSTGRESQL; }

std::string InsertSql(const Xid& xid) { return absl::StrCat("INSERT INTO race.t VALUES ('", xid.gtrid, "')"); }

double Random(std::mt19937_64* random, double below) {
  return std::uniform_real_distribution<double>(0, below)(*random);
}

}  // namespace

RaceParticipants::RaceParticipants(RaceRig* rig, const RaceLoad& load)
    : rig_(rig), load_(load), coordinator_(rig->coordinator_address(), ClientOptions()) {
  lingerer_ = std::thread([this] { RunLingering(); });
  for (int i = 0; i < load_.threads; ++i) threads_.emplace_back([this, i] { RunThread(i); });
}

RaceParticipants::~RaceParticipants() {
  stop_ = true;
  Join().IgnoreError();
}

absl::Status RaceParticipants::Join() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  {
    MutexLock lock(&mutex_);
    no_more_ = true;
    changed_.NotifyAll();
  }
  if (lingerer_.joinable()) lingerer_.join();
  done_ = true;
  MutexLock lock(&mutex_);
  return error_;
}

std::vector<DecidedRace> RaceParticipants::TakeDecided() {
  MutexLock lock(&mutex_);
  return std::exchange(fresh_, {});
}

void RaceParticipants::RunThread(int number) {
  std::mt19937_64 random(load_.seed * 1000003 + static_cast<uint64_t>(number));
  while (!stop_ && next_.fetch_add(1) < load_.transactions) {
    const absl::Status status = RunOne(&random);
    if (status.ok()) continue;
    stop_ = true;
    MutexLock lock(&mutex_);
    if (error_.ok()) error_ = status;
  }
}

absl::Status RaceParticipants::RunOne(std::mt19937_64* random) {
  v1::CreateGlobalRequest request;
  request.set_request_id(NewRequestId());
  SetDuration(absl::Minutes(5), request.mutable_timeout());
  for (int i = 0; i < kRaceServers; ++i) request.add_branches()->set_resource(RaceRig::ResourceName(i));
  const absl::StatusOr<v1::Global> global = coordinator_.CreateGlobal(request, absl::Now() + kCallPatience);
  if (!global.ok()) return global.status();
  std::vector<Prepared> branches;
  for (int i = 0; i < kRaceServers; ++i) {
    absl::StatusOr<Prepared> branch = Prepare(i, *global, global->branches(i));
    if (!branch.ok()) return branch.status();
    branch->meddle = Random(random, 1) < load_.ghost_fraction;
    branches.push_back(*std::move(branch));
  }
  if (absl::Status status = Vote(branches); !status.ok()) return status;
  const v1::Decision decision =
      Random(random, 1) < load_.rollback_fraction ? v1::DECISION_ROLLBACK : v1::DECISION_COMMIT;
  const bool leave_first = Random(random, 1) < 0.5;
  if (leave_first) {
    for (Prepared& branch : branches) Leave(&branch, random);
  }
  const absl::StatusOr<v1::Decision> decided = Decide(global->gtrid(), decision);
  if (!decided.ok()) return decided.status();
  if (!leave_first) {
    for (Prepared& branch : branches) Leave(&branch, random);
  }
  for (Prepared& branch : branches) {
    if (branch.meddle) Meddle(branch, *decided);
    if (branch.session != nullptr)
      LingerOn(std::move(branch.session), absl::Seconds(Random(random, kLongestLingering)));
  }
  ++decided_;
  MutexLock lock(&mutex_);
  fresh_.push_back({global->gtrid(), *decided});
  return absl::OkStatus();
}

absl::StatusOr<RaceParticipants::Prepared> RaceParticipants::Prepare(int server, const v1::Global& global,
                                                                     const v1::Branch& branch) {
  Prepared prepared;
  prepared.server = server;
  prepared.xid = {global.gtrid(), branch.bqual()};
  absl::StatusOr<SessionPtr> session = rig_->Connect(server);
  if (!session.ok()) return session.status();
  prepared.session = *std::move(session);
  const absl::Status status =
      IsPostgres(rig_->engine(server)) ? PreparePostgres(&prepared) : PrepareXa(branch, &prepared);
  if (!status.ok()) return status;
  return prepared;
}

absl::Status RaceParticipants::PrepareXa(const v1::Branch& branch, Prepared* prepared) {
  const absl::StatusOr<WitnessTable> witness = WitnessTable::Parse(branch.witness_table());
  if (!witness.ok()) return witness.status();
  prepared->socket = mysql_get_socket(prepared->session->BorrowHandle());
  const std::string xid = XidSqlLiteral(prepared->xid);
  const QueryResult result =
      prepared->session->Query(absl::StrCat("XA START ", xid, ";", InsertSql(prepared->xid), ";",
                                            witness->InsertSql(prepared->xid), ";XA END ", xid, ";XA PREPARE ", xid));
  return result.ok() ? absl::OkStatus() : StatusOf(result.error, "preparing a branch");
}

absl::Status RaceParticipants::PreparePostgres(Prepared* prepared) {
  prepared->socket = PQsocket(prepared->session->BorrowPgHandle());
  const StartResult started = prepared->session->Start(prepared->xid, InsertSql(prepared->xid));
  if (!started.xa.ok()) return StatusOf(started.xa.error, "starting a branch");
  if (!started.first->ok()) return StatusOf(started.first->error, "writing a row");
  const XaResult result = prepared->session->Prepare(prepared->xid, nullptr);
  return result.ok() ? absl::OkStatus() : StatusOf(result.error, "preparing a branch");
}

absl::Status RaceParticipants::Vote(const std::vector<Prepared>& branches) {
  v1::PreparedRequest request;
  request.set_gtrid(branches[0].xid.gtrid);
  request.set_wait(v1::WAIT_NONE);
  for (const Prepared& branch : branches) {
    v1::Vote* const vote = request.add_votes();
    vote->set_bqual(branch.xid.bqual);
    vote->set_kind(v1::VOTE_KIND_PREPARED);
    vote->set_witnessed(!IsPostgres(rig_->engine(branch.server)));
    *vote->mutable_session() = branch.session->Describe();
    vote->mutable_session()->set_detached(branch.session->detaches());  // PrepareXa goes past the session.
  }
  return coordinator_.Prepared(request, absl::Now() + kCallPatience).status();
}

absl::StatusOr<v1::Decision> RaceParticipants::Decide(const std::string& gtrid, v1::Decision decision) {
  v1::FinalizeRequest request;
  request.set_gtrid(gtrid);
  request.set_decision(decision);
  request.set_wait(v1::WAIT_DECIDED);
  const absl::StatusOr<v1::GlobalStatus> status = coordinator_.Finalize(request, absl::Now() + kCallPatience);
  if (!status.ok()) return status.status();
  return status->decision();
}

void RaceParticipants::Leave(Prepared* branch, std::mt19937_64* random) {
  const double how = Random(random, 1);
  if (branch->meddle || how < 0.3) {
    st_mysql* const handle = branch->session->BorrowHandle();
    const ConnectOptions options = rig_->ConnectAs(branch->server);
    if (IsPostgres(rig_->engine(branch->server))) {
      branch->session->Query("DISCARD ALL");
    } else if (how < 0.15) {
      mysql_change_user(handle, options.user.c_str(), options.password.c_str(), nullptr);
    } else {
      mysql_reset_connection(handle);
    }
    if (branch->meddle || how < 0.2) return;  // It is gone on with; else it is closed at once.
  } else if (how < 0.5) {
    LingerOn(std::move(branch->session), absl::Seconds(Random(random, kLongestPause)));
    return;
  } else if (how < 0.6) {
    shutdown(branch->socket, SHUT_RDWR);  // As if the process had died.
  }
  branch->session.reset();
}

void RaceParticipants::Meddle(const Prepared& branch, v1::Decision decision) {
  absl::StatusOr<SessionPtr> other = rig_->Connect(branch.server);
  if (!other.ok()) return;
  const XaResult result =
      decision == v1::DECISION_COMMIT ? (*other)->Commit(branch.xid) : (*other)->Rollback(branch.xid);
  if (result.ok()) ++meddled_;
}

void RaceParticipants::LingerOn(SessionPtr session, absl::Duration time) {
  MutexLock lock(&mutex_);
  lingering_.push({absl::Now() + time, std::move(session)});
  changed_.NotifyAll();
}

void RaceParticipants::RunLingering() {
  int64_t count = 0;
  for (;;) {
    Lingering next;
    {
      MutexLock lock(&mutex_);
      while (lingering_.empty() && !no_more_) changed_.Wait(&mutex_);
      if (lingering_.empty()) return;
      next = lingering_.top();
      lingering_.pop();
    }
    absl::SleepFor(next.until - absl::Now());
    // What a pool's next user would do. It must not change how the branch ends. It may fail where the session still has
    // the branch, and may be killed for it; nobody may touch it where it has not.
    static constexpr const char* kUses[] = {
        "SELECT COUNT(*) FROM race.noise", "INSERT INTO race.noise VALUES (CURRENT_TIMESTAMP)",
        "BEGIN;INSERT INTO race.noise VALUES (CURRENT_TIMESTAMP);COMMIT", "ROLLBACK", "COMMIT"};
    const QueryResult used = next.session->Query(kUses[count++ % std::size(kUses)]);
    if (next.session->detaches() && !used.ok()) ++disturbed_;
  }
}

}  // namespace assent
