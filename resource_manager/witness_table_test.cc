#include "resource_manager/witness_table.h"

#include <string>

#include "base/errors.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

TEST(WitnessTableTest, ReadsAndQuotes) {
  const auto table = WitnessTable::Parse("my-schema.wit$ness_1");
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->name(), "my-schema.wit$ness_1");
  EXPECT_EQ(table->quoted(), "`my-schema`.`wit$ness_1`");
  EXPECT_EQ(table->InsertSql(Xid{"g1", "b"}),
            "INSERT INTO `my-schema`.`wit$ness_1` (gtrid, bqual) VALUES (X'6731', X'62')");
  EXPECT_EQ(WitnessTable::OfSchema("")->name(), "assent.witness");
  EXPECT_EQ(WitnessTable::OfSchema("other")->name(), "other.witness");
}

TEST(WitnessTableTest, RefusesWhatCouldBeSql) {
  for (const std::string& name :
       {std::string(), std::string("witness"), std::string("."), std::string("a."), std::string(".b"),
        std::string("a.b.c"), std::string("a`.b"), std::string("a.b`; DROP TABLE x"), std::string("a.b c"),
        std::string("a.b\0", 4), "a." + std::string(65, 'x')}) {
    EXPECT_EQ(ReasonOf(WitnessTable::Parse(name).status()), Reason::INVALID_FIELD) << name;
  }
  for (const char* schema : {"a.b", "a`", " ", "é"}) {
    EXPECT_EQ(ReasonOf(WitnessTable::OfSchema(schema).status()), Reason::INVALID_FIELD) << schema;
  }
}

}  // namespace
}  // namespace assent
