#include "store/mariadb_membership.h"

#include <glog/logging.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/errors.h"
#include "store/record.h"

namespace assent {
namespace {

// Rows of the dead are shown for so long.
constexpr absl::string_view kForgetDead =
    "DELETE FROM store_instances WHERE alive=0 AND ended < NOW(6) - INTERVAL 1 DAY";

std::string QuoteAll(const std::set<std::string>& names) {
  return absl::StrJoin(names, ",", [](std::string* out, const std::string& name) { out->append(Quote(name)); });
}

std::string Is(absl::string_view id, absl::string_view epoch, const InstanceKey& key) {
  return absl::StrCat(id, "=", key.id, " AND ", epoch, "=", key.epoch);
}

bool Same(const InstanceKey& a, const InstanceKey& b) { return a.id == b.id && a.epoch == b.epoch; }

absl::Status NotJoined() { return MakeError(Reason::INSTANCE_FENCED, "this instance has not joined the store"); }

}  // namespace

MariaDbMembership::MariaDbMembership(MariaDbPool* pool, Fence* fence, std::string writer)
    : pool_(pool), fence_(fence), writer_(std::move(writer)) {}

absl::StatusOr<InstanceKey> MariaDbMembership::Join(const InstanceInfo& info) {
  if (absl::Status status = CheckInstanceInfo(info); !status.ok()) return status;
  InstanceKey key;
  const absl::Status status = pool_->Run("join the store", [&](MariaDbConnection* connection) {
    DbError error = TryJoin(connection, info, &key);
    // Somebody joined under the same new address in this moment.
    if (error.code == kErDupEntry) {
      connection->Query("ROLLBACK");
      error = TryJoin(connection, info, &key);
    }
    return error;
  });
  if (!status.ok()) return status;
  fence_->Set(key);
  return key;
}

DbError MariaDbMembership::TryJoin(MariaDbConnection* connection, const InstanceInfo& info, InstanceKey* key) {
  const std::string address = Quote(info.address);
  // What an earlier instance of this address still has in flight would hold its fence, and us.
  QueryResult found = connection->Query(absl::StrCat("SELECT writer FROM store_instances WHERE address=", address));
  if (!found.ok()) return found.error;
  if (!found.rows().empty() && TextOf(found.rows()[0][0]) != writer_) {
    const DbError error = EndHolder(connection, TextOf(found.rows()[0][0]), /*take=*/false);
    if (!error.ok()) return error;
  }
  found =
      connection->Query(absl::StrCat("START TRANSACTION;", kForgetDead,
                                     ";SELECT id, epoch FROM store_instances WHERE address=", address, " FOR UPDATE"));
  if (!found.ok()) return found.error;
  if (found.rows().empty()) {
    const QueryResult made = connection->Query(
        absl::StrCat("INSERT INTO store_instances (address, epoch, alive, version, writer, joined) VALUES (", address,
                     ", 1, 1, ", Quote(info.version), ",", Quote(writer_), ", NOW(6))"));
    if (!made.ok()) return made.error;
    *key = {static_cast<int64_t>(made.results[0].last_insert_id), 1};
  } else {
    *key = {IntOf(found.rows()[0][0]), IntOf(found.rows()[0][1]) + 1};
    const QueryResult changed = connection->Query(
        absl::StrCat("UPDATE store_instances SET epoch=", key->epoch, ", alive=1, version=", Quote(info.version),
                     ", writer=", Quote(writer_), ", joined=NOW(6), ended=NULL WHERE id=", key->id));
    if (!changed.ok()) return changed.error;
  }
  return connection
      ->Query(absl::StrCat("REPLACE INTO store_heartbeats (instance, epoch, seen, lease_us, load_now) VALUES (",
                           key->id, ",", key->epoch, ", NOW(6), ", absl::ToInt64Microseconds(info.lease),
                           ", 0);COMMIT"))
      .error;
}

absl::Status MariaDbMembership::Renew(int64_t load) {
  const absl::optional<InstanceKey> self = fence_->key();
  if (!self) return NotJoined();
  bool alive = false;
  absl::Status status = pool_->Run("renew the lease", [&](MariaDbConnection* connection) {
    const QueryResult answer = connection->Query(absl::StrCat(
        "UPDATE store_heartbeats SET seen=NOW(6), load_now=", load, " WHERE ", Is("instance", "epoch", *self)));
    alive = answer.affected_rows() == 1;
    return answer.error;
  });
  if (!status.ok()) return status;
  if (!alive) return Fence::Fenced();
  status = DeclareSilentDead();
  // Somebody else's death is nobody's hurry: the next Renew tries again.
  LOG_IF(WARNING, !status.ok()) << "store: " << status.message();
  return absl::OkStatus();
}

absl::Status MariaDbMembership::DeclareSilentDead() {
  return pool_->Run("look for silent instances", [&](MariaDbConnection* connection) {
    std::vector<Silent> silent;
    DbError error = FindSilent(connection, &silent);
    for (const Silent& one : silent) {
      if (error.ok()) error = Bury(connection, one);
    }
    return error;
  });
}

DbError MariaDbMembership::FindSilent(MariaDbConnection* connection, std::vector<Silent>* silent) {
  const QueryResult answer = connection->Query(absl::StrCat(
      "SELECT h.instance, h.epoch, i.writer FROM store_heartbeats h JOIN store_instances i ON i.id=h.instance "
      "WHERE ",
      kOverdueSql));
  for (const auto& row : answer.rows()) silent->push_back({{IntOf(row[0]), IntOf(row[1])}, TextOf(row[2])});
  return answer.error;
}

DbError MariaDbMembership::Bury(MariaDbConnection* connection, const Silent& silent) {
  // First what it has in flight: that holds its fence. If it renews in this very moment it lives on, having lost a
  // connection.
  DbError error = EndHolder(connection, silent.writer, /*take=*/false);
  if (!error.ok()) return error;
  const std::string heartbeat = Is("instance", "epoch", silent.key);
  const QueryResult still = connection->Query(absl::StrCat("START TRANSACTION;SELECT 1 FROM store_heartbeats WHERE ",
                                                           heartbeat, " AND ", kOverdueSql, " FOR UPDATE"));
  if (!still.ok()) return still.error;
  if (still.rows().empty()) return connection->Query("ROLLBACK").error;
  error = connection
              ->Query(absl::StrCat("DELETE FROM store_heartbeats WHERE ", heartbeat,
                                   ";UPDATE store_instances SET alive=0, ended=NOW(6) WHERE ",
                                   Is("id", "epoch", silent.key), ";COMMIT"))
              .error;
  LOG_IF(WARNING, error.ok()) << "store: instance " << silent.key.id << " epoch " << silent.key.epoch
                              << " was silent for longer than its lease and is declared dead";
  return error;
}

absl::Status MariaDbMembership::Leave() {
  const absl::optional<InstanceKey> self = fence_->key();
  if (!self) return absl::OkStatus();
  return pool_->Run("leave the store", [&](MariaDbConnection* connection) {
    return connection
        ->Query(absl::StrCat("START TRANSACTION;DELETE FROM store_heartbeats WHERE ", Is("instance", "epoch", *self),
                             ";UPDATE store_instances SET alive=0, ended=NOW(6) WHERE ", Is("id", "epoch", *self),
                             " AND alive=1;COMMIT"))
        .error;
  });
}

absl::StatusOr<std::vector<Instance>> MariaDbMembership::Instances() {
  std::vector<Instance> instances;
  const absl::Status status = pool_->Run("read the instances", [&](MariaDbConnection* connection) {
    instances.clear();
    const auto micros = [](absl::string_view time) {
      return absl::StrCat("TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', ", time, ")");
    };
    const QueryResult answer = connection->Query(
        absl::StrCat("SELECT i.id, i.epoch, i.address, i.version, i.alive, ", micros("i.joined"), ", ",
                     micros("IFNULL(h.seen, i.ended)"),
                     ", h.load_now FROM store_instances i LEFT JOIN store_heartbeats h "
                     "ON h.instance=i.id AND h.epoch=i.epoch ORDER BY i.id;"
                     "SELECT work, instance, instance_epoch FROM store_leases WHERE instance<>0 ORDER BY work"));
    if (!answer.ok()) return answer.error;
    for (const auto& row : answer.results[0].rows) {
      Instance instance;
      instance.key = {IntOf(row[0]), IntOf(row[1])};
      instance.address = TextOf(row[2]);
      instance.version = TextOf(row[3]);
      instance.alive = IntOf(row[4]) != 0;
      instance.joined = absl::FromUnixMicros(IntOf(row[5]));
      instance.last_seen = absl::FromUnixMicros(IntOf(row[6]));
      instance.load = IntOf(row[7]);
      instances.push_back(std::move(instance));
    }
    for (const auto& row : answer.results[1].rows) {
      const InstanceKey holder = {IntOf(row[1]), IntOf(row[2])};
      for (Instance& instance : instances) {
        if (instance.alive && Same(instance.key, holder)) instance.leases.push_back(TextOf(row[0]));
      }
    }
    return DbError{};
  });
  if (!status.ok()) return status;
  return instances;
}

absl::StatusOr<std::vector<Lease>> MariaDbMembership::Claim(absl::Span<const std::string> work) {
  if (absl::Status status = CheckWork(work); !status.ok()) return status;
  if (!fence_->key()) return NotJoined();
  std::vector<Lease> leases;
  if (work.empty()) return leases;
  bool fenced = false;
  const absl::Status status = pool_->Run(
      "claim work", [&](MariaDbConnection* connection) { return TryClaim(connection, work, &fenced, &leases); });
  if (!status.ok()) return status;
  if (fenced) return Fence::Fenced();
  return leases;
}

DbError MariaDbMembership::TryClaim(MariaDbConnection* connection, absl::Span<const std::string> work, bool* fenced,
                                    std::vector<Lease>* leases) {
  const InstanceKey self = *fence_->key();
  // In one order for everybody, or they would get in each other's way.
  const std::set<std::string> names(work.begin(), work.end());
  const std::string values = absl::StrJoin(
      names, ",", [](std::string* out, const std::string& name) { absl::StrAppend(out, "(", Quote(name), ",0,0,0)"); });
  const std::string list = QuoteAll(names);
  // What is locked first is read as it is then; who is alive is looked up after that, so that no holder is overlooked.
  QueryResult held = connection->Query(absl::StrCat(
      "INSERT IGNORE INTO store_leases (work, epoch, instance, instance_epoch) VALUES ", values, ";START TRANSACTION;",
      fence_->Sql(), ";SELECT work, epoch, instance, instance_epoch FROM store_leases WHERE work IN (", list,
      ") ORDER BY work FOR UPDATE;SELECT id, epoch FROM store_instances WHERE alive=1"));
  if (!held.ok()) return held.error;
  *fenced = !Fence::Holds(held.results[2]);
  if (*fenced) return connection->Query("ROLLBACK").error;
  std::map<int64_t, int64_t> alive;
  for (const auto& row : held.results[4].rows) alive[IntOf(row[0])] = IntOf(row[1]);
  std::set<std::string> taken;
  std::map<std::string, Lease> now;
  for (const auto& row : held.results[3].rows) {
    Lease lease = {TextOf(row[0]), {IntOf(row[2]), IntOf(row[3])}, IntOf(row[1])};
    const auto holder = alive.find(lease.holder.id);
    if (holder == alive.end() || holder->second != lease.holder.epoch) {
      lease.holder = self;
      ++lease.epoch;
      taken.insert(lease.work);
    }
    now[lease.work] = lease;
  }
  const std::string take =
      taken.empty() ? ""
                    : absl::StrCat("UPDATE store_leases SET epoch=epoch+1, instance=", self.id,
                                   ", instance_epoch=", self.epoch, " WHERE work IN (", QuoteAll(taken), ");");
  const QueryResult done = connection->Query(absl::StrCat(take, "COMMIT"));
  if (!done.ok()) return done.error;
  leases->clear();
  for (const std::string& name : work) leases->push_back(now[name]);
  return DbError{};
}

absl::Status MariaDbMembership::Release(absl::Span<const std::string> work) {
  if (absl::Status status = CheckWork(work); !status.ok()) return status;
  const absl::optional<InstanceKey> self = fence_->key();
  if (!self || work.empty()) return absl::OkStatus();
  return pool_->Run("release work", [&](MariaDbConnection* connection) {
    return connection
        ->Query(absl::StrCat("UPDATE store_leases SET instance=0, instance_epoch=0 WHERE work IN (",
                             QuoteAll({work.begin(), work.end()}), ") AND ", Is("instance", "instance_epoch", *self)))
        .error;
  });
}

}  // namespace assent
