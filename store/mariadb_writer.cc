#include "store/mariadb_writer.h"

#include <glog/logging.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/fault_point.h"
#include "store/group_sql.h"
#include "store/record.h"

namespace assent {
namespace {

// Statements that ride in one round trip, so long as they stay below this.
constexpr size_t kPacketBytes = size_t{1} << 20;
// How often a group that others got in the way of is written again before its members are written alone.
constexpr int kTries = 4;

bool HasForced(absl::Span<const PendingTransition> group) {
  return std::any_of(group.begin(), group.end(), [](const PendingTransition& pending) {
    return pending.transition.durability == Durability::kForced;
  });
}

// Statements of a plan that ride in one round trip.
struct Packet {
  std::string sql;
  size_t begin = 0;
  size_t count = 0;
};

std::vector<Packet> Pack(std::string prefix, const GroupSql& plan) {
  std::vector<Packet> packets = {{std::move(prefix), 0, 0}};
  for (size_t i = 0; i < plan.statements.size(); ++i) {
    const std::string& sql = plan.statements[i].sql;
    if (packets.back().sql.size() + sql.size() < kPacketBytes) {
      absl::StrAppend(&packets.back().sql, ";", sql);
    } else {
      packets.push_back({sql, i, 0});
    }
    ++packets.back().count;
  }
  return packets;
}

}  // namespace

MariaDbWriter::MariaDbWriter(MariaDbOptions options, std::string store_id, std::string name, const Fence* fence,
                             SeenHorizon* horizon)
    : options_(std::move(options)),
      store_id_(std::move(store_id)),
      name_(std::move(name)),
      fence_(fence),
      horizon_(horizon) {}

absl::Status MariaDbWriter::Ensure() {
  if (connection_ != nullptr && (connection_->lost() || connection_->PeerHasClosed())) connection_.reset();
  if (connection_ != nullptr) return absl::OkStatus();
  if (!backoff_.MayTry()) return last_error_;
  absl::StatusOr<std::unique_ptr<MariaDbConnection>> connection = ConnectToStore(options_, /*database=*/true);
  absl::Status status = connection.status();
  if (status.ok()) status = StoreError(EndHolder(connection->get(), name_, /*take=*/true), "take the writer's place");
  if (status.ok()) status = CheckStoreId(connection->get(), store_id_);
  if (!status.ok()) {
    Drop(status);
    return status;
  }
  backoff_.Succeeded();
  connection_ = *std::move(connection);
  return absl::OkStatus();
}

void MariaDbWriter::Drop(const absl::Status& status) {
  connection_.reset();
  backoff_.Failed();
  last_error_ = status;
}

std::vector<TransitionResult> MariaDbWriter::Apply(const std::vector<PendingTransition>& group) {
  std::vector<TransitionResult> results(group.size());
  ApplyGroup(group, absl::MakeSpan(results));
  return results;
}

void MariaDbWriter::ApplyGroup(Group group, Results results) {
  const auto answer_all = [&](TransitionResult::Code code, const absl::Status& status) {
    for (TransitionResult& result : results) result = {code, nullptr, status};
  };
  bool together = true;
  absl::Status status;
  for (int i = 0; i < kTries; ++i) {
    if (i > 0) std::this_thread::sleep_for(std::chrono::milliseconds((1 << i) + std::rand() % (1 << i)));
    status = Ensure();
    if (!status.ok()) return answer_all(TransitionResult::Code::kNotApplied, status);
    End end = together ? TryTogether(group, results, &status) : TryInOrder(group, results, &status);
    if (end == End::kConflict) {
      together = false;
      // The connection may have gone with the ROLLBACK.
      end = connection_ == nullptr ? End::kAgain : TryInOrder(group, results, &status);
    }
    switch (end) {
      case End::kApplied: return;
      case End::kUnknown: return answer_all(TransitionResult::Code::kUnknown, status);
      case End::kFenced: return answer_all(TransitionResult::Code::kNotApplied, Fence::Fenced());
      case End::kFailed:
        if (group.size() > 1) return ApplyEachAlone(group, results, status);
        return answer_all(TransitionResult::Code::kNotApplied, status);
      case End::kConflict:
      case End::kAgain: break;
    }
  }
  if (group.size() > 1) return ApplyEachAlone(group, results, status);
  answer_all(TransitionResult::Code::kNotApplied, status);
}

void MariaDbWriter::ApplyEachAlone(Group group, Results results, const absl::Status& status) {
  const absl::optional<Reason> reason = ReasonOf(status);
  // What the whole server refuses, it refuses for each.
  const bool hopeless =
      reason == Reason::STORE_FULL || reason == Reason::STORE_READ_ONLY || reason == Reason::STORE_UNFIT;
  for (size_t i = 0; i < group.size(); ++i) {
    if (hopeless) {
      results[i] = {TransitionResult::Code::kNotApplied, nullptr, status};
    } else {
      ApplyGroup(group.subspan(i, 1), results.subspan(i, 1));
    }
  }
}

MariaDbWriter::End MariaDbWriter::TryTogether(Group group, Results results, absl::Status* status) {
  const GroupSql plan = PlanGroup(group, results, horizon_->micros());
  bool first = true;
  std::vector<Packet> packets = Pack(absl::StrCat("START TRANSACTION;", fence_->Sql()), plan);
  if (plan.oldest_first) absl::StrAppend(&packets.back().sql, ";", kHorizonSql);
  for (const Packet& packet : packets) {
    const QueryResult answer = connection_->Query(packet.sql);
    if (answer.error.code == kErDupEntry) {
      Rollback();
      return End::kConflict;
    }
    if (!answer.ok()) return Failed(answer.error, status);
    // The first packet begins with START TRANSACTION and the fence.
    if (first && !Fence::Holds(answer.results[1])) {
      Rollback();
      return End::kFenced;
    }
    const size_t skip = first ? 2 : 0;
    first = false;
    for (size_t i = 0; i < packet.count; ++i) {
      if (answer.results[skip + i].affected_rows == plan.statements[packet.begin + i].rows) continue;
      Rollback();
      return End::kConflict;
    }
    if (!plan.oldest_first || &packet != &packets.back()) continue;
    const DbError error = ReadHorizon(answer.results.back());
    if (!error.ok()) return Failed(error, status);
    if (*plan.oldest_first >= horizon_->time()) continue;
    Rollback();
    return End::kConflict;
  }
  const DbError error = RefuseAll(plan.refused, group, results);
  if (!error.ok()) return Failed(error, status);
  return Commit(group, results, status);
}

MariaDbWriter::End MariaDbWriter::TryInOrder(Group group, Results results, absl::Status* status) {
  const QueryResult begun = connection_->Query(absl::StrCat("START TRANSACTION;", fence_->Sql()));
  if (!begun.ok()) return Failed(begun.error, status);
  if (!Fence::Holds(begun.results[1])) {
    Rollback();
    return End::kFenced;
  }
  bool conflict = false;
  for (size_t i = 0; i < group.size(); ++i) {
    results[i] = TransitionResult();
    const DbError error = WriteOne(group[i], &results[i]);
    if (!error.ok()) return Failed(error, status);
    conflict = conflict || results[i].code != TransitionResult::Code::kApplied;
  }
  if (conflict) {
    // What is shown of others must be forced.
    const DbError barrier = WriteBarrier(connection_.get());
    if (!barrier.ok()) return Failed(barrier, status);
  }
  return Commit(group, results, status);
}

DbError MariaDbWriter::RefuseSecond(const v1::Global& next, TransitionResult* result) {
  const DbError error = ReadConflict(next, /*creating=*/true, result);
  if (error.ok() && result->code == TransitionResult::Code::kConflict && result->current == nullptr) {
    *result = {TransitionResult::Code::kNotApplied, nullptr, MayHaveBeenDeleted(next.gtrid())};
  }
  return error;
}

DbError MariaDbWriter::RefuseAll(const std::vector<size_t>& refused, Group group, Results results) {
  bool shown = false;
  for (const size_t i : refused) {
    const DbError error = RefuseSecond(*group[i].transition.next, &results[i]);
    if (!error.ok()) return error;
    shown = shown || results[i].current != nullptr;
  }
  // What is shown of others must be forced.
  return shown ? WriteBarrier(connection_.get()) : DbError{};
}

DbError MariaDbWriter::WriteOne(const PendingTransition& pending, TransitionResult* result) {
  const QueryResult answer = connection_->Query(SqlOf(pending));
  if (answer.ok() && answer.affected_rows() == 1) {
    return pending.transition.must_be_first ? CheckFirst(pending.transition.next->gtrid(), result) : DbError{};
  }
  if (!answer.ok() && answer.error.code != kErDupEntry) return answer.error;
  return ReadConflict(*pending.transition.next, pending.transition.expected_revision == 0, result);
}

DbError MariaDbWriter::CheckFirst(const std::string& gtrid, TransitionResult* result) {
  const QueryResult answer = connection_->Query(kHorizonSql);
  if (!answer.ok()) return answer.error;
  const DbError error = ReadHorizon(answer.results[0]);
  if (!error.ok() || !IsBeforeHorizon(gtrid, horizon_->micros())) return error;
  *result = {TransitionResult::Code::kNotApplied, nullptr, MayHaveBeenDeleted(gtrid)};
  return connection_->Query(absl::StrCat("DELETE FROM store_globals WHERE gtrid=", Quote(gtrid))).error;
}

DbError MariaDbWriter::ReadHorizon(const ResultSet& answer) {
  if (answer.rows.size() != 1) return NoHorizonError();
  horizon_->Raise(IntOf(answer.rows[0][0]));
  return DbError{};
}

DbError MariaDbWriter::ReadConflict(const v1::Global& next, bool creating, TransitionResult* result) {
  result->code = TransitionResult::Code::kConflict;
  std::string where = absl::StrCat("gtrid=", Quote(next.gtrid()));
  for (int i = 0; i < 2; ++i) {
    const QueryResult answer = connection_->Query(
        absl::StrCat("SELECT gtrid, revision, record FROM store_globals WHERE ", where, " LOCK IN SHARE MODE"));
    if (!answer.ok()) return answer.error;
    if (!answer.rows().empty()) {
      absl::StatusOr<GlobalPtr> current = ParseGlobal(StoredOf(answer.rows()[0]));
      if (current.ok()) {
        result->current = *std::move(current);
      } else {
        *result = {TransitionResult::Code::kNotApplied, nullptr, current.status()};
      }
      break;
    }
    if (!creating) break;
    where = absl::StrCat("request_id=", Quote(next.request_id()));
  }
  return DbError{};
}

MariaDbWriter::End MariaDbWriter::Commit(Group group, Results results, absl::Status* status) {
  const bool forced = HasForced(group);
  ASSENT_FAULT_POINT_OF(forced ? FaultPoint::kStoreForcedBefore : FaultPoint::kStoreGroupBefore);
  const QueryResult answer = connection_->Query("COMMIT");
  if (answer.ok()) {
    ASSENT_FAULT_POINT_OF(forced ? FaultPoint::kStoreForcedCommitted : FaultPoint::kStoreGroupCommitted);
    const int64_t applied = std::count_if(results.begin(), results.end(), [](const TransitionResult& result) {
      return result.code == TransitionResult::Code::kApplied;
    });
    transitions_ += applied;
    if (applied > 0) {
      ++groups_;
      if (forced) ++forced_groups_;
    }
    return End::kApplied;
  }
  *status = StoreError(answer.error, "commit");
  if (connection_->lost() && !connection_->sent()) {
    connection_.reset();
    return End::kAgain;
  }
  if (IsContention(answer.error.code)) {
    Rollback();
    return End::kAgain;
  }
  LOG(WARNING) << "store: a commit ended unknown: " << status->message();
  connection_.reset();  // Whatever the connection thinks: nothing but EndHolder makes sure.
  return End::kUnknown;
}

MariaDbWriter::End MariaDbWriter::Failed(const DbError& error, absl::Status* status) {
  *status = StoreError(error, "write transitions");
  // Without a COMMIT nothing of it will ever be there: the database rolls back what a lost connection left.
  Rollback();
  // A connection keeps the rights it was made with: another one may have better.
  if (ReasonOf(*status) == Reason::STORE_UNFIT) connection_.reset();
  return IsConnectionLost(error.code) || IsContention(error.code) ? End::kAgain : End::kFailed;
}

void MariaDbWriter::Rollback() {
  if (connection_->lost() || !connection_->Query("ROLLBACK").ok()) connection_.reset();
}

absl::StatusOr<GlobalPtr> MariaDbWriter::Settle(absl::string_view gtrid) {
  // The locking read waits for whoever else is writing this row.
  const std::string sql =
      absl::StrCat("START TRANSACTION;SELECT gtrid, revision, record FROM store_globals WHERE gtrid=", Quote(gtrid),
                   " LOCK IN SHARE MODE;", kBarrierSql, ";COMMIT");
  DbError error;
  for (int i = 0; i < kTries; ++i) {
    if (absl::Status status = Ensure(); !status.ok()) return status;
    const QueryResult answer = connection_->Query(sql);
    if (answer.ok()) {
      if (answer.results[2].affected_rows != 1) return StoreError(NoBarrierError(), "settle");
      if (answer.rows().empty()) return GlobalPtr();
      return ParseGlobal(StoredOf(answer.rows()[0]));
    }
    error = answer.error;
    Rollback();
    if (!IsConnectionLost(error.code) && !IsContention(error.code)) break;
  }
  return StoreError(error, "settle");
}

StoreStats MariaDbWriter::Stats() const {
  StoreStats stats;
  stats.transitions = transitions_;
  stats.groups = groups_;
  stats.forced_groups = forced_groups_;
  return stats;
}

}  // namespace assent
