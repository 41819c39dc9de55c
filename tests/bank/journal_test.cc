#include "tests/bank/journal.h"

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fixtures/temp_dir.h"

namespace assent {
namespace {

class JournalTest : public testing::Test {
 protected:
  TempDir dir_ = *TempDir::Create();
  std::string path_ = dir_.path() + "/journal";
};

TEST_F(JournalTest, ReadsWhatWasWritten) {
  auto writer = JournalWriter::Open(path_);
  ASSERT_TRUE(writer.ok()) << writer.status();
  JournalReader reader(path_);
  ASSERT_TRUE((*writer)->Append({7, Told::kCommitted, "bank-1", ""}).ok());
  ASSERT_TRUE((*writer)->Append({8, Told::kRolledBack, "", "two\nlines"}).ok());
  auto entries = reader.ReadNew();
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[0].transfer, 7);
  EXPECT_EQ((*entries)[0].told, Told::kCommitted);
  EXPECT_EQ((*entries)[0].gtrid, "bank-1");
  EXPECT_EQ((*entries)[1].told, Told::kRolledBack);
  EXPECT_EQ((*entries)[1].gtrid, "");
  EXPECT_EQ((*entries)[1].why, "two lines");
  ASSERT_TRUE((*writer)->Append({9, Told::kInDoubt, "bank-3", "why not"}).ok());
  entries = reader.ReadNew();
  ASSERT_EQ(entries->size(), 1u) << "only what is new";
  EXPECT_EQ((*entries)[0].told, Told::kInDoubt);
}

TEST_F(JournalTest, HalfALineIsReadWhenItIsWhole) {
  JournalReader reader(path_);
  EXPECT_TRUE(reader.ReadNew()->empty()) << "there is no file yet";
  std::ofstream file(path_);
  file << "1 COMMITTED g" << std::flush;
  EXPECT_TRUE(reader.ReadNew()->empty());
  file << "1 \n" << std::flush;
  const auto entries = reader.ReadNew();
  ASSERT_EQ(entries->size(), 1u);
  EXPECT_EQ((*entries)[0].gtrid, "g1");
}

TEST_F(JournalTest, WhatIsNotAJournalIsAnError) {
  for (const char* line : {"1 PERHAPS g \n", "x COMMITTED g \n", "1 COMMITTED\n", "\n"}) {
    std::ofstream(path_) << line;
    EXPECT_EQ(JournalReader(path_).ReadNew().status().code(), absl::StatusCode::kDataLoss) << line;
  }
}

}  // namespace
}  // namespace assent
