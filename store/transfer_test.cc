// Moving a store: what arrives is what left, whatever interrupts it, and nothing that is not whole is taken for whole.
#include "store/transfer.h"

#include <sys/stat.h>

#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/timestamp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/horizon.h"
#include "store/sqlite_store.h"
#include "store/testing/mariadb_test_util.h"
#include "store/testing/store_test_util.h"
#include "store/testing/transfer_test_util.h"
#include "store/transfer_file.h"

namespace assent {
namespace {

using ::testing::HasSubstr;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void WriteAll(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

class TransferTest : public testing::Test {
 protected:
  static constexpr int kCount = 3000;

  StoreSettings Sqlite(const std::string& name) {
    StoreSettings settings;
    settings.store = folder_.File(name);
    settings.cluster = "test";
    return settings;
  }
  StoreSettings MariaDb() {
    static int next = 0;
    StoreSettings settings;
    settings.store = absl::StrCat("mariadb://root@/moved_", ++next, "?socket=", SharedStoreServer().socket());
    settings.cluster = "test";
    settings.password_file = SharedStoreServer().password_file();
    return settings;
  }
  std::unique_ptr<Store> Open(const StoreSettings& settings) {
    absl::StatusOr<std::unique_ptr<Store>> store = OpenStore(settings);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  // A store with kCount transactions and two resources.
  StoreSettings MakeSource() {
    const StoreSettings settings = Sqlite("source.db");
    const std::unique_ptr<Store> store = Open(settings);
    FillWithHistory(store.get(), 0, kCount);
    for (const char* name : {"orders", "payments"}) {
      v1::Resource resource;
      resource.set_name(name);
      resource.set_epoch(1234567890123456789);
      EXPECT_TRUE(store->PutResource(resource).ok());
    }
    return settings;
  }
  std::string File(const std::string& name = "file") { return folder_.File(name); }
  absl::StatusOr<TransferCounts> Export(const StoreSettings& from, bool resume = false, bool force = false) {
    return ExportStore(from, {File(), resume, force, nullptr});
  }
  // What verify says, or its error.
  std::string Verify(const StoreSettings& settings, const std::string& name = "file") {
    const absl::StatusOr<VerifyReport> report = VerifyStore(settings, File(name), nullptr);
    if (!report.ok()) return absl::StrCat(ReasonName(report.status()), " ", report.status().message());
    if (report->differences.empty()) return "OK";
    return absl::StrCat(absl::StrJoin(report->differences, "\n"), "\n", report->more_differences, " more");
  }
  static std::string ReasonOfImport(const absl::StatusOr<TransferCounts>& counts) {
    return ReasonName(counts.status());
  }
  bool Exists(const std::string& name) {
    struct stat info;
    return stat(File(name).c_str(), &info) == 0;
  }
  // Imports the first `lines` transactions of the file as a run that was killed then would have left them.
  void HalfImport(const StoreSettings& settings, int lines) {
    const auto reader = TransferReader::Open(File());
    ASSERT_TRUE(reader.ok());
    StoreSettings half = settings;
    half.import_as = (*reader)->header().store_id();
    const std::unique_ptr<Store> store = Open(half);
    ASSERT_TRUE(store != nullptr && store->IsHalfImported());
    StoreLine line;
    for (int done = 0; done < lines;) {
      ASSERT_TRUE(*(*reader)->Next(&line));
      if (line.has_resource()) {
        ASSERT_TRUE(store->PutResource(line.resource()).ok());
        continue;
      }
      Transition transition;
      transition.next = std::make_shared<v1::Global>(line.global());
      ASSERT_EQ(ToString(SubmitAndWait(store.get(), std::move(transition))), "APPLIED");
      ++done;
    }
  }

  TempFolder folder_;
};

TEST_F(TransferTest, ThereAndBack) {
  const StoreSettings source = MakeSource();
  const auto exported = Export(source);
  ASSERT_TRUE(exported.ok()) << exported.status();
  EXPECT_EQ(exported->globals, kCount);
  EXPECT_EQ(exported->resources, 2);
  EXPECT_FALSE(Exists("file.part"));
  EXPECT_EQ(Verify(source), "OK");

  const StoreSettings mariadb = MariaDb();
  const auto imported = ImportStore(mariadb, File(), nullptr);
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_EQ(imported->globals, kCount);
  EXPECT_EQ(imported->found, 0);
  EXPECT_EQ(Verify(mariadb), "OK");

  ASSERT_TRUE(ExportStore(mariadb, {File("again"), false, false, nullptr}).ok());
  StoreSettings back = Sqlite("back.db");
  back.cluster.clear();  // The file's.
  ASSERT_TRUE(ImportStore(back, File("again"), nullptr).ok());
  back.cluster = "test";
  EXPECT_EQ(Verify(back, "again"), "OK");
  const auto before = Open(source), between = Open(mariadb), after = Open(back);
  EXPECT_EQ(before->Id(), between->Id());
  EXPECT_EQ(before->Id(), after->Id());
  EXPECT_EQ(AllRecords(before.get()), AllRecords(between.get()));
  EXPECT_EQ(AllRecords(before.get()), AllRecords(after.get()));
  EXPECT_FALSE(between->IsHalfImported());
  EXPECT_FALSE(after->MayHaveLostLazyWrites());
}

TEST_F(TransferTest, AnEmptyStoreCanMove) {
  const StoreSettings source = Sqlite("source.db");
  Open(source);
  ASSERT_TRUE(Export(source).ok());
  ASSERT_TRUE(ImportStore(Sqlite("new.db"), File(), nullptr).ok());
  EXPECT_EQ(Verify(Sqlite("new.db")), "OK");
}

TEST_F(TransferTest, AHalfImportedStoreOpensForItsImportOnly) {
  ASSERT_TRUE(Export(MakeSource()).ok());
  for (const StoreSettings& to : {Sqlite("new.db"), MariaDb()}) {
    HalfImport(to, 700);
    EXPECT_EQ(ReasonName(OpenStore(to).status()), "STORE_HALF_IMPORTED");
    EXPECT_EQ(ReasonName(ExportStore(to, {File("x"), false, false, nullptr}).status()), "STORE_HALF_IMPORTED");
    EXPECT_THAT(Verify(to), HasSubstr("STORE_HALF_IMPORTED"));
    StoreSettings other = to;
    other.import_as = "another";
    EXPECT_EQ(ReasonName(OpenStore(other).status()), "STORE_DIFFERS");

    const auto rest = ImportStore(to, File(), nullptr);
    ASSERT_TRUE(rest.ok()) << rest.status();
    EXPECT_EQ(rest->found, 700);
    EXPECT_EQ(Verify(to), "OK");
    // Once more: all of it is there.
    EXPECT_EQ(ImportStore(to, File(), nullptr)->found, kCount);
  }
}

TEST_F(TransferTest, WhatIsThereOutOfOrderIsSkippedToo) {
  ASSERT_TRUE(Export(MakeSource()).ok());
  for (const StoreSettings& to : {Sqlite("new.db"), MariaDb()}) {
    HalfImport(to, 10);
    StoreSettings half = to;
    half.import_as = (*TransferReader::Open(File()))->header().store_id();
    for (const int i : {500, 20, 400}) {
      Transition transition;
      transition.next = MakeHistory(i);
      ASSERT_EQ(ToString(SubmitAndWait(Open(half).get(), std::move(transition))), "APPLIED");
    }
    const auto rest = ImportStore(to, File(), nullptr);
    ASSERT_TRUE(rest.ok()) << rest.status();
    EXPECT_EQ(rest->found, 13);
    const auto report = VerifyStore(to, File(), nullptr);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_THAT(report->differences, testing::IsEmpty());
    EXPECT_GT(report->displaced, 0);
  }
}

TEST_F(TransferTest, AHalfImportedStoreWithSomethingElseIsRefused) {
  ASSERT_TRUE(Export(MakeSource()).ok());
  const std::string id = (*TransferReader::Open(File()))->header().store_id();
  const auto with = [&](const std::string& name, const GlobalPtr& global) {
    StoreSettings half = Sqlite(name);
    half.import_as = id;
    Transition transition;
    transition.next = global;
    EXPECT_EQ(ToString(SubmitAndWait(Open(half).get(), std::move(transition))), "APPLIED");
    return ImportStore(Sqlite(name), File(), nullptr).status();
  };
  auto other = std::make_shared<v1::Global>(*MakeHistory(5));
  other->set_revision(9);
  const absl::Status differs = with("a.db", other);
  EXPECT_EQ(ReasonName(differs), "STORE_DIFFERS");
  EXPECT_THAT(std::string(differs.message()), HasSubstr("line 9: "));  // Header, two resources, and five before it.
  EXPECT_THAT(std::string(differs.message()), HasSubstr("revision 9"));
  const absl::Status extra = with("b.db", MakeGlobal("nobody's", 1, v1::Global::STATE_ACTIVE));
  EXPECT_EQ(ReasonName(extra), "STORE_DIFFERS");
  EXPECT_THAT(std::string(extra.message()), HasSubstr("1 transactions of the store are not in the file"));
  for (const char* name : {"a.db", "b.db"}) {
    EXPECT_EQ(ReasonName(OpenStore(Sqlite(name)).status()), "STORE_HALF_IMPORTED") << name;
  }
}

TEST_F(TransferTest, ACompleteStoreIsNotWrittenTo) {
  const StoreSettings source = MakeSource();
  ASSERT_TRUE(Export(source).ok());
  FillWithHistory(Open(source).get(), kCount, 1);
  EXPECT_EQ(ReasonOfImport(ImportStore(source, File(), nullptr)), "STORE_DIFFERS");
  EXPECT_THAT(Verify(source), HasSubstr("it is not in the file"));
  const StoreSettings other = Sqlite("other.db");
  Open(other);
  EXPECT_EQ(ReasonOfImport(ImportStore(other, File(), nullptr)), "STORE_DIFFERS");
  EXPECT_THAT(Verify(other), HasSubstr("STORE_DIFFERS the file is of the store"));
  StoreSettings cluster = Sqlite("new.db");
  cluster.cluster = "shop";
  EXPECT_EQ(ReasonOfImport(ImportStore(cluster, File(), nullptr)), "STORE_OTHER_CLUSTER");
  EXPECT_FALSE(Exists("new.db"));
}

TEST_F(TransferTest, DifferencesAreNamed) {
  const StoreSettings source = MakeSource();
  ASSERT_TRUE(Export(source).ok());
  {
    const auto store = Open(source);
    auto next = std::make_shared<v1::Global>(*MakeHistory(7));
    next->set_revision(5);
    next->set_state(v1::Global::STATE_ROLLING_BACK);
    ASSERT_EQ(ToString(SubmitAndWait(store.get(), To(next))), "APPLIED");
    ASSERT_TRUE(store->RemoveResource("orders").ok());
    ASSERT_EQ(store->Purge(absl::Now(), 2)->size(), 2u);
  }
  const std::string differences = Verify(source);
  EXPECT_THAT(differences, HasSubstr("line 2: resource 'orders': it is not in the store"));
  EXPECT_THAT(differences, HasSubstr(absl::StrCat("line 11: transaction '", MakeHistory(7)->gtrid(),
                                                  "': the store has revision 5 (STATE_ROLLING_BACK), the file 4")));
  EXPECT_THAT(differences, HasSubstr(absl::StrCat("transaction '", MakeHistory(1)->gtrid(), "': it is not in the st")));
  EXPECT_THAT(differences, HasSubstr("\n0 more"));
}

TEST_F(TransferTest, AnExportIsContinued) {
  const StoreSettings source = MakeSource();
  ASSERT_TRUE(Export(source).ok());
  const std::string whole = ReadAll(File());
  for (const size_t size :
       {size_t{0}, size_t{10}, whole.find('\n') + 1, whole.size() / 2, whole.size() - 1, whole.size()}) {
    std::remove(File().c_str());
    WriteAll(File("file.part"), whole.substr(0, size));
    if (size > 0) {
      EXPECT_TRUE(absl::IsAlreadyExists(Export(source).status()));
    }
    const auto counts = Export(source, /*resume=*/true);
    ASSERT_TRUE(counts.ok()) << counts.status();
    EXPECT_EQ(counts->globals, kCount);
    if (size > 1000) {
      EXPECT_GT(counts->found, 0);
    }
    EXPECT_EQ(Verify(source), "OK");
    EXPECT_FALSE(Exists("file.part"));
  }
  // Blocks that the disk never got.
  std::remove(File().c_str());
  WriteAll(File("file.part"), whole.substr(0, whole.size() / 2) + std::string(5000, '\0') + "\n" + whole);
  ASSERT_TRUE(Export(source, /*resume=*/true).ok());
  EXPECT_EQ(Verify(source), "OK");
}

TEST_F(TransferTest, AnExportOfAnotherMomentIsNotContinued) {
  const StoreSettings source = MakeSource();
  ASSERT_TRUE(Export(source).ok());
  const std::string whole = ReadAll(File());
  std::remove(File().c_str());
  WriteAll(File("file.part"), whole.substr(0, whole.size() / 2));
  ASSERT_EQ(Open(source)->Purge(absl::Now(), 1)->size(), 1u);
  const absl::Status changed = Export(source, /*resume=*/true).status();
  EXPECT_EQ(ReasonName(changed), "STORE_DIFFERS");
  EXPECT_THAT(std::string(changed.message()), HasSubstr("the store has changed"));
  EXPECT_TRUE(Exists("file.part"));
  EXPECT_TRUE(Export(source, /*resume=*/false, /*force=*/true).ok());
  EXPECT_EQ(Verify(source), "OK");
  // What is there is left alone, until it may be replaced.
  EXPECT_TRUE(absl::IsAlreadyExists(Export(source).status()));
  EXPECT_TRUE(Export(source, /*resume=*/false, /*force=*/true).ok());
}

TEST_F(TransferTest, TheHorizonMovesToo) {
  const StoreSettings source = MakeSource();
  ASSERT_TRUE(Open(source)->FinishImport(absl::FromUnixMillis(1700000000123)).ok());
  ASSERT_TRUE(Export(source).ok());
  for (const StoreSettings& to : {Sqlite("new.db"), MariaDb()}) {
    ASSERT_TRUE(ImportStore(to, File(), nullptr).ok());
    EXPECT_EQ(Verify(to), "OK");
    EXPECT_EQ(Open(to)->Horizon(), absl::FromUnixMillis(1700000000123));
    ASSERT_TRUE(Open(to)->FinishImport(absl::FromUnixMillis(1700000000124)).ok());
    EXPECT_THAT(Verify(to), HasSubstr("the horizon of what was deleted"));
  }
}

// As programs before the horizon wrote them.
TEST_F(TransferTest, AFileWithoutAHorizonIsOneOfAnHourBefore) {
  const StoreSettings source = MakeSource();
  ASSERT_TRUE(Export(source).ok());
  std::vector<std::string> lines = absl::StrSplit(ReadAll(File()), '\n');
  const absl::StatusOr<StoreLine> header = DecodeLine(lines[0]);
  ASSERT_TRUE(header.ok());
  StoreLine older = *header;
  older.mutable_header()->set_format(1);
  older.mutable_header()->clear_horizon();
  lines[0] = *EncodeLine(older);
  TransferChecksum checksum;
  for (size_t i = 0; i + 2 < lines.size(); ++i) {
    checksum.Add(lines[i]);
    checksum.Add("\n");
  }
  StoreLine trailer = *DecodeLine(lines[lines.size() - 2]);
  trailer.mutable_trailer()->set_checksum(checksum.Hex());
  lines[lines.size() - 2] = *EncodeLine(trailer);
  WriteAll(File("older"), absl::StrJoin(lines, "\n"));
  for (const StoreSettings& to : {Sqlite("new.db"), MariaDb()}) {
    const auto imported = ImportStore(to, File("older"), nullptr);
    ASSERT_TRUE(imported.ok()) << imported.status();
    EXPECT_EQ(Verify(to, "older"), "OK");
    const absl::Time made = GetTime(header->header().create_time());
    EXPECT_EQ(absl::ToUnixMicros(Open(to)->Horizon()), HorizonAt(made - absl::Hours(1)));
  }
}

TEST_F(TransferTest, WhatMayBeLostIsSettledFirst) {
  const StoreSettings source = MakeSource();
  {
    // As after a restart of the machine.
    SqliteOptions options;
    options.path = source.store;
    options.cluster = "test";
    options.boot_id = "another";
    ASSERT_TRUE(SqliteStore::Open(options).ok());
  }
  EXPECT_EQ(ReasonName(Export(source).status()), "STORE_NOT_SETTLED");
  EXPECT_FALSE(Exists("file"));
  StoreSettings missing = Sqlite("missing.db");
  EXPECT_EQ(ReasonName(Export(missing).status()), "STORE_UNAVAILABLE");
  EXPECT_FALSE(Exists("missing.db"));
}

TEST_F(TransferTest, NobodyMayWorkOnIt) {
  const StoreSettings mariadb = MariaDb();
  const auto working = Open(mariadb);
  InstanceInfo info;
  info.address = "10.0.0.1:7411";
  info.lease = absl::Milliseconds(300);
  ASSERT_TRUE(working->Members().Join(info).ok());
  const absl::Status refused = Export(mariadb).status();
  EXPECT_EQ(ReasonName(refused), "STORE_LOCKED");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("10.0.0.1:7411"));
  // One that was killed is no hindrance once its lease has ended.
  absl::SleepFor(absl::Milliseconds(400));
  EXPECT_TRUE(Export(mariadb).ok());
  const StoreSettings sqlite = Sqlite("source.db");
  const auto open = Open(sqlite);
  EXPECT_EQ(ReasonName(Export(sqlite, false, true).status()), "STORE_LOCKED");
}

// Every way in which a file may be wrong, and what is said of it.
TEST_F(TransferTest, BadFilesAreRefusedBeforeAnythingIsWritten) {
  ASSERT_TRUE(Export(MakeSource()).ok());
  const std::string good = ReadAll(File());
  std::vector<std::string> lines = absl::StrSplit(good, '\n');
  lines.pop_back();
  const auto join = [](std::vector<std::string> parts) { return absl::StrJoin(parts, "\n") + "\n"; };
  const auto without = [&](size_t at) {
    std::vector<std::string> rest = lines;
    rest.erase(rest.begin() + static_cast<int64_t>(at));
    return join(rest);
  };
  std::vector<std::string> swapped = lines;
  std::swap(swapped[10], swapped[11]);
  const std::pair<std::string, std::string> kBad[] = {
      {"", "line 1: there is nothing"},
      {"hello\n", "line 1: is not the header"},
      {std::string(1 << 20, '\0'), "line 1: is not the header"},
      {"{\"header\":{\"format\":1,\"cluster\":\"test\"}}\n", "line 1: names no store"},
      {absl::StrReplaceAll(good, {{"\"format\":2", "\"format\":3"}}), "the format 3"},
      {good.substr(0, good.size() / 2), "is not whole"},
      {good.substr(0, good.size() - 1), "is not whole"},
      {without(lines.size() - 1), "is not whole"},
      {without(100), "is damaged"},
      {without(0), "line 1: is not the header"},
      {join(swapped), "is damaged"},
      {absl::StrReplaceAll(good, {{"STATE_HEURISTIC", "STATE_COMMITTED"}}), "is damaged"},
      {good + lines[5] + "\n", "is not whole"},
  };
  for (const auto& [text, expected] : kBad) {
    WriteAll(File("bad"), text);
    const absl::Status status = ImportStore(Sqlite("new.db"), File("bad"), nullptr).status();
    EXPECT_EQ(ReasonName(status), "STORE_FILE_INVALID") << expected;
    EXPECT_THAT(std::string(status.message()), HasSubstr(expected));
    EXPECT_FALSE(Exists("new.db")) << expected;
  }
  EXPECT_TRUE(absl::IsNotFound(ImportStore(Sqlite("new.db"), File("nowhere"), nullptr).status()));
}

}  // namespace
}  // namespace assent
