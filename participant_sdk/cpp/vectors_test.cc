// The test vectors that all SDKs share (participant_sdk/vectors.json). This SDK is their specification: where the file
// and it differ, somebody has changed one and not the other.
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/db_error.h"
#include "base/errors.h"
#include "base/xid.h"
#include "gtest/gtest.h"
#include "participant_sdk/cpp/carry.h"
#include "participant_sdk/cpp/completion_reporter.h"
#include "participant_sdk/cpp/coordinator_connection.h"
#include "participant_sdk/cpp/options.h"
#include "resource_manager/postgres_gid.h"
#include "resource_manager/postgres_session.h"
#include "resource_manager/session_server.h"
#include "resource_manager/witness_table.h"
#include "resource_manager/xa_outcome.h"

namespace assent {
namespace {

using google::protobuf::ListValue;
using google::protobuf::Struct;
using google::protobuf::Value;

const Struct& Vectors() {
  static const Struct* const vectors = [] {
    std::ifstream file("participant_sdk/vectors.json");
    std::stringstream text;
    text << file.rdbuf();
    auto* const read = new Struct();
    const auto status = google::protobuf::util::JsonStringToMessage(text.str(), read);
    if (!status.ok()) ADD_FAILURE() << "participant_sdk/vectors.json: " << status.ToString();
    return read;
  }();
  return *vectors;
}

const Value& Get(const Struct& object, const std::string& key) {
  static const Value none;
  const auto it = object.fields().find(key);
  if (it == object.fields().end()) {
    ADD_FAILURE() << "no key " << key;
    return none;
  }
  return it->second;
}
std::string Text(const Struct& object, const std::string& key) { return Get(object, key).string_value(); }
int64_t Number(const Struct& object, const std::string& key) {
  return static_cast<int64_t>(Get(object, key).number_value());
}
// The objects of a list; a test of none would prove nothing.
std::vector<Struct> All(const Value& list) {
  std::vector<Struct> all;
  for (const Value& each : list.list_value().values()) all.push_back(each.struct_value());
  EXPECT_FALSE(all.empty());
  return all;
}
std::vector<Struct> All(const std::string& key) { return All(Get(Vectors(), key)); }

XaVerb VerbOf(const std::string& name) {
  for (const XaVerb verb :
       {XaVerb::kStart, XaVerb::kEnd, XaVerb::kPrepare, XaVerb::kCommit, XaVerb::kCommitOnePhase, XaVerb::kRollback}) {
    if (absl::StrCat("XA ", name) == ToString(verb)) return verb;
  }
  ADD_FAILURE() << "no verb " << name;
  return XaVerb::kRecover;
}

TEST(VectorsTest, Constants) {
  EXPECT_EQ(Number(Vectors(), "format_id"), kFormatId);
  EXPECT_EQ(Number(Vectors(), "max_id_bytes"), static_cast<int64_t>(kMaxIdBytes));
  const Struct& metadata = Get(Vectors(), "metadata").struct_value();
  EXPECT_EQ(Text(metadata, "grpc_gtrid"), kGtridMetadata);
  EXPECT_EQ(Text(metadata, "http_gtrid"), kGtridHeader);
  EXPECT_EQ(Text(metadata, "grpc_traceparent"), kTraceparentMetadata);
  EXPECT_EQ(Text(metadata, "http_traceparent"), kTraceparentMetadata);
  EXPECT_EQ(Text(metadata, "error_domain"), kErrorDomain);
}

TEST(VectorsTest, Defaults) {
  const Struct& defaults = Get(Vectors(), "defaults").struct_value();
  const ClientOptions client;
  EXPECT_EQ(absl::Milliseconds(Number(defaults, "call_patience_ms")), client.call_patience);
  EXPECT_EQ(absl::Milliseconds(Number(defaults, "decision_patience_ms")), client.decision_patience);
  const BeginOptions begin;
  EXPECT_EQ(Text(defaults, "policy"), v1::DecisionPolicy_Name(begin.policy));
  EXPECT_EQ(Get(defaults, "sole_participant").bool_value(), begin.sole_participant);
  EXPECT_EQ(Get(defaults, "one_phase_commit").bool_value(), begin.one_phase_commit);
  EXPECT_EQ(Number(defaults, "completions_per_call"), static_cast<int64_t>(CompletionReporter::kMaxBatch));
  EXPECT_EQ(Number(defaults, "completions_waiting"), static_cast<int64_t>(CompletionReporter::kMaxWaiting));
}

TEST(VectorsTest, WhetherDoingItAgainHelps) {
  const std::map<std::string, Retry> advice = {
      {"never", Retry::kNever}, {"same call", Retry::kSameCall}, {"whole transaction", Retry::kWholeTransaction}};
  const std::vector<Struct> rows = All(Get(Vectors(), "retry_advice"));
  ASSERT_FALSE(rows.empty());
  for (const Struct& row : rows) {
    const auto info = std::find_if(AllReasons().begin(), AllReasons().end(),
                                   [&](const ReasonInfo& each) { return each.name == Text(row, "reason"); });
    ASSERT_NE(info, AllReasons().end()) << row.DebugString();
    std::map<std::string, std::string> metadata;
    for (const auto& field : Get(row, "metadata").struct_value().fields()) {
      metadata[field.first] = field.second.string_value();
    }
    EXPECT_EQ(RetryOf(MakeError(info->reason, "words", metadata)), advice.at(Text(row, "retry"))) << row.DebugString();
  }
}

TEST(VectorsTest, Ids) {
  const Struct& ids = Get(Vectors(), "ids").struct_value();
  ASSERT_GT(Get(ids, "valid").list_value().values_size(), 0);
  for (const Value& id : Get(ids, "valid").list_value().values()) EXPECT_TRUE(IsValidId(id.string_value()));
  for (const Struct& id : All(Get(ids, "invalid"))) {
    const std::string bytes = absl::HexStringToBytes(Text(id, "hex"));
    const absl::Status status = ValidateGtrid(bytes);
    EXPECT_EQ(ReasonOf(status), Reason::INVALID_GTRID) << Text(id, "hex");
    EXPECT_TRUE(absl::StrContains(status.message(), Text(id, "problem"))) << status;
  }
}

TEST(VectorsTest, Xids) {
  const WitnessTable witness = *WitnessTable::OfSchema("");
  for (const Struct& vector : All("xids")) {
    const Xid xid = {Text(vector, "gtrid"), Text(vector, "bqual")};
    EXPECT_EQ(XidSqlLiteral(xid), Text(vector, "sql"));
    EXPECT_EQ(GidOf(xid), Text(vector, "gid"));
    EXPECT_EQ(witness.InsertSql(xid), Text(vector, "witness_insert"));
  }
}

TEST(VectorsTest, Gids) {
  const Struct& gids = Get(Vectors(), "gids").struct_value();
  for (const Struct& vector : All(Get(gids, "valid"))) {
    const RecoveredXid parsed = ParseGid(Text(vector, "gid"));
    EXPECT_EQ(parsed.format_id, Number(vector, "format_id"));
    EXPECT_EQ(parsed.gtrid, Text(vector, "gtrid"));
    EXPECT_EQ(parsed.bqual, Text(vector, "bqual"));
  }
  for (const Value& gid : Get(gids, "invalid").list_value().values()) {
    EXPECT_EQ(ParseGid(gid.string_value()).format_id, kNoFormatId) << gid.string_value();
  }
}

TEST(VectorsTest, BirthsAndBlocks) {
  for (const Struct& vector : All("births")) {
    EXPECT_EQ(BirthOf(Text(vector, "gtrid")), absl::FromUnixMillis(Number(vector, "unix_ms")));
  }
  ASSERT_GT(Get(Vectors(), "without_birth").list_value().values_size(), 0);
  for (const Value& gtrid : Get(Vectors(), "without_birth").list_value().values()) {
    EXPECT_EQ(BirthOf(gtrid.string_value()), absl::nullopt) << gtrid.string_value();
  }
  for (const Struct& vector : All("blocks")) {
    EXPECT_EQ(GtridOfBlock(Text(vector, "prefix"), static_cast<int>(Number(vector, "index"))), Text(vector, "gtrid"));
  }
}

TEST(VectorsTest, WitnessTables) {
  const Struct& tables = Get(Vectors(), "witness_tables").struct_value();
  for (const Struct& vector : All(Get(tables, "valid"))) {
    const absl::StatusOr<WitnessTable> table = WitnessTable::Parse(Text(vector, "name"));
    ASSERT_TRUE(table.ok()) << table.status();
    EXPECT_EQ(table->quoted(), Text(vector, "quoted"));
  }
  for (const Value& name : Get(tables, "invalid").list_value().values()) {
    EXPECT_FALSE(WitnessTable::Parse(name.string_value()).ok()) << name.string_value();
  }
}

TEST(VectorsTest, WitnessRefusals) {
  for (const Struct& vector : All("witness_refusals")) {
    const int code = static_cast<int>(Number(vector, "error_code"));
    EXPECT_EQ(WitnessTable::Parse(Text(vector, "table"))->WhyRefused(code), Text(vector, "why")) << code;
  }
}

TEST(VectorsTest, Addresses) {
  const Struct& vectors = Get(Vectors(), "addresses").struct_value();
  for (const bool valid : {true, false}) {
    const auto& texts = Get(vectors, valid ? "valid" : "invalid").list_value().values();
    ASSERT_FALSE(texts.empty());
    for (const Value& text : texts) {
      const absl::Status status = CheckCoordinatorAddresses(text.string_value());
      EXPECT_EQ(status.ok(), valid) << text.string_value();
      EXPECT_EQ(ReasonOf(status).has_value() ? *ReasonOf(status) : Reason::INVALID_FIELD, Reason::INVALID_FIELD)
          << status;
    }
  }
}

TEST(VectorsTest, Reasons) {
  const std::vector<Struct> vectors = All("reasons");
  ASSERT_EQ(vectors.size(), AllReasons().size());
  for (size_t i = 0; i < vectors.size(); ++i) {
    const ReasonInfo& info = AllReasons()[i];
    const char* const retry = info.retry == Retry::kNever      ? "never"
                              : info.retry == Retry::kSameCall ? "same call"
                                                               : "whole transaction";
    EXPECT_EQ(Text(vectors[i], "reason"), info.name) << "in order of precedence";
    EXPECT_EQ(Text(vectors[i], "code"), absl::StatusCodeToString(info.code)) << info.name;
    EXPECT_EQ(Text(vectors[i], "retry"), retry) << info.name;
    EXPECT_EQ(vectors[i].fields().contains("refused_by_itself"), IsRefusedByItself(info.reason)) << info.name;
  }
}

TEST(VectorsTest, WhatDatabasesAnswer) {
  for (const Struct& vector : All("mysql_outcomes")) {
    const XaOutcome outcome = OutcomeOf(VerbOf(Text(vector, "verb")), static_cast<int>(Number(vector, "code")));
    EXPECT_EQ(ToString(outcome), Text(vector, "outcome")) << vector.ShortDebugString();
  }
  for (const Struct& vector : All("postgres_outcomes")) {
    const DbError error{0, Text(vector, "sqlstate"), "an error"};
    EXPECT_EQ(ToString(PostgresOutcomeOf(VerbOf(Text(vector, "verb")), error)), Text(vector, "outcome"))
        << vector.ShortDebugString();
  }
  for (const bool lost : {true, false}) {
    const auto& codes = Get(Vectors(), lost ? "mysql_connection_lost" : "mysql_connection_kept").list_value().values();
    ASSERT_FALSE(codes.empty());
    for (const Value& code : codes) EXPECT_EQ(IsConnectionLost(static_cast<int>(code.number_value())), lost);
  }
}

TEST(VectorsTest, Servers) {
  for (const Struct& vector : All("servers")) {
    v1::Session session;
    session.set_server(Text(vector, "session_server"));
    session.set_timeline(Number(vector, "session_timeline"));
    const absl::Status status = CheckServer(session, "r", Text(vector, "server"), Number(vector, "timeline"));
    EXPECT_EQ(status.ok(), Get(vector, "ok").bool_value()) << vector.ShortDebugString() << status;
  }
}

}  // namespace
}  // namespace assent
