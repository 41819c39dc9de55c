#include "resource_manager/branch_session.h"

#include <glog/logging.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "absl/time/clock.h"

namespace assent {

absl::string_view ToString(BranchState state) {
  switch (state) {
    case BranchState::kNone: return "NONE";
    case BranchState::kActive: return "ACTIVE";
    case BranchState::kEnded: return "ENDED";
    case BranchState::kRollbackOnly: return "ROLLBACK_ONLY";
    case BranchState::kPrepared: return "PREPARED";
    case BranchState::kUnknown: return "UNKNOWN";
  }
  return "?";
}

absl::string_view ToString(XaResult::Step step) {
  switch (step) {
    case XaResult::Step::kNone: return "NONE";
    case XaResult::Step::kRefused: return "REFUSED";
    case XaResult::Step::kGuard: return "GUARD";
    case XaResult::Step::kStart: return "START";
    case XaResult::Step::kWitness: return "WITNESS";
    case XaResult::Step::kEnd: return "END";
    case XaResult::Step::kPrepare: return "PREPARE";
    case XaResult::Step::kCommit: return "COMMIT";
    case XaResult::Step::kRollback: return "ROLLBACK";
  }
  return "?";
}

StartResult BranchSession::Start(const Xid& xid, absl::string_view first_sql) {
  SendStart(xid, first_sql);
  return ReceiveStart();
}

QueryResult BranchSession::Query(absl::string_view sql, bool keep) {
  SendQuery(sql, keep);
  return ReceiveQuery();
}

bool BranchSession::MayHaveWritten() {
  SendProbe();
  return ReceiveProbe();
}

XaResult BranchSession::Prepare(const Xid& xid, const WitnessTable* witness) {
  SendPrepare(xid, witness);
  return Receive();
}

void BranchSession::SendCommitOnePhase(const Xid&, const WitnessTable*) {
  LOG(FATAL) << "this engine's branches are always prepared";
}

XaResult BranchSession::Commit(const Xid& xid) {
  SendCommit(xid);
  return Receive();
}

XaResult BranchSession::Rollback(const Xid& xid) {
  SendRollback(xid);
  return Receive();
}

std::vector<BranchSession*> BranchSession::WaitAny(absl::Span<BranchSession* const> sessions, absl::Duration timeout) {
  std::vector<BranchSession*> ready;
  std::vector<pollfd> fds;
  std::vector<BranchSession*> polled;
  for (BranchSession* session : sessions) {
    const int fd = session->SocketDue();
    if (fd < 0) {
      ready.push_back(session);
    } else {
      fds.push_back(pollfd{fd, POLLIN, 0});
      polled.push_back(session);
    }
  }
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    const absl::Duration left =
        ready.empty() ? std::max(absl::ZeroDuration(), deadline - absl::Now()) : absl::ZeroDuration();
    // poll counts in int milliseconds; round up, or the last fraction would be a busy loop.
    const int64_t ms = std::min<int64_t>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))), 86400000);
    const int got = poll(fds.data(), fds.size(), static_cast<int>(ms));
    if (got < 0 && errno == EINTR) continue;
    for (size_t i = 0; i < fds.size(); ++i) {
      if (got < 0 || fds[i].revents != 0) ready.push_back(polled[i]);
    }
    if (!ready.empty() || absl::Now() >= deadline) return ready;
  }
}

}  // namespace assent
