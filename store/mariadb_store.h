// The store in a MariaDB server: the shared one. Any number of coordinators, each through an object of its own.
//
// Where what is: mariadb_writer.h (transitions, what COMMIT gives, unknown outcomes), mariadb_membership.h (instances
// and leases), mariadb_fence.h, mariadb_schema.h (the tables, and what is asked of the server), mariadb_link.h
// (connections). When the server is lost, everything answers STORE_UNAVAILABLE until it is back; connections are made
// again by themselves, with pauses of at most a second.
#ifndef ASSENT_STORE_MARIADB_STORE_H_
#define ASSENT_STORE_MARIADB_STORE_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/horizon.h"
#include "store/mariadb_fence.h"
#include "store/mariadb_link.h"
#include "store/mariadb_membership.h"
#include "store/mariadb_options.h"
#include "store/mariadb_schema.h"
#include "store/mariadb_writer.h"
#include "store/store.h"
#include "store/write_queue.h"

namespace assent {

class MariaDbStore : public Store {
 public:
  // Everything that can be read afterwards is durable. Errors, none of which changes an existing store:
  // STORE_UNAVAILABLE, STORE_UNFIT, STORE_READ_ONLY, STORE_CORRUPT, STORE_SCHEMA_NEWER, STORE_OTHER_CLUSTER,
  // STORE_FULL, STORE_HALF_IMPORTED, STORE_DIFFERS (see MariaDbOptions::import_as), INVALID_FIELD (the options). They
  // say what to do.
  static absl::StatusOr<std::unique_ptr<MariaDbStore>> Open(const MariaDbOptions& options);
  ~MariaDbStore() override;

  void Submit(Transition transition, Done done) override;
  absl::StatusOr<GlobalPtr> Settle(absl::string_view gtrid) override;
  absl::StatusOr<GlobalPtr> Read(absl::string_view gtrid) override;
  absl::StatusOr<ListPage> List(const ListQuery& query) override;
  absl::StatusOr<std::vector<GlobalPtr>> ReadOpen(absl::string_view after, int limit) override;
  absl::StatusOr<std::vector<GlobalPtr>> ReadChanged(absl::Span<const KnownRevision> known) override;
  // An unknown COMMIT is an error here: what it deleted is then gone without having been answered.
  absl::StatusOr<std::vector<std::string>> Purge(absl::Time ended_before, int limit) override;
  absl::Time Horizon() const override { return horizon_.time(); }
  absl::StatusOr<absl::Time> ReadHorizon() override;
  absl::StatusOr<StoreSizes> Sizes() override;
  absl::Status PutResource(const v1::Resource& resource) override;
  absl::StatusOr<bool> ReplaceResource(const v1::Resource* expected, const v1::Resource& resource) override;
  absl::Status RemoveResource(absl::string_view name) override;
  absl::StatusOr<std::vector<v1::Resource>> ReadResources() override;
  bool IsShared() const override { return true; }
  std::string Id() const override { return facts_.store_id; }
  bool MayHaveLostLazyWrites() const override { return facts_.may_have_lost; }
  bool IsHalfImported() const override { return half_imported_; }
  absl::Status FinishImport(absl::Time horizon) override;
  StoreStats Stats() const override { return writer_->Stats(); }
  Membership& Members() override { return members_; }

  // What about the server can lose what it has acknowledged; empty if nothing was found.
  const std::vector<StoreFinding>& Findings() const { return findings_; }

 private:
  MariaDbStore(const MariaDbOptions& options, MariaDbStoreFacts facts, std::vector<StoreFinding> findings);
  // The records that a statement answers, forced before they are returned (law S6).
  absl::StatusOr<std::vector<GlobalPtr>> ReadForced(absl::string_view doing, const std::string& sql);
  // One change in a transaction of its own, behind the fence.
  absl::Status Change(absl::string_view doing, const std::string& sql);

  const MariaDbStoreFacts facts_;
  const std::vector<StoreFinding> findings_;
  std::atomic<bool> half_imported_;
  Fence fence_;
  SeenHorizon horizon_;
  MariaDbPool pool_;
  std::unique_ptr<MariaDbWriter> writer_;
  MariaDbMembership members_;
  std::unique_ptr<WriteQueue> queue_;
};

}  // namespace assent

#endif  // ASSENT_STORE_MARIADB_STORE_H_
