#include "tools/assentctl/doctor.h"

#include "base/timestamp.h"
#include "gmock/gmock.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1700000000);

Diagnosis DiagnosisOf(const std::string& resource) {
  Diagnosis diagnosis;
  diagnosis.resource = resource;
  v1::Finding* good = diagnosis.check.add_findings();
  good->set_check("reachable");
  good->set_severity(v1::Finding::SEVERITY_OK);
  good->set_detail("connected");
  v1::Finding* bad = diagnosis.check.add_findings();
  bad->set_check("lock_wait");
  bad->set_severity(v1::Finding::SEVERITY_WARNING);
  bad->set_detail("a \"day\"");
  bad->set_remedy("SET GLOBAL lock_wait_timeout = 50;");
  return diagnosis;
}

TEST(DoctorTest, EachResourceIsATableWithRemedies) {
  Diagnosis diagnosis = DiagnosisOf("orders");
  EXPECT_EQ(RenderDiagnosis(diagnosis),
            "orders\n"
            "CHECK      SEVERITY  DETAIL\n"
            "reachable  OK        connected\n"
            "lock_wait  WARNING   a \"day\"\n"
            "                     → SET GLOBAL lock_wait_timeout = 50;\n");
  diagnosis.status.emplace();
  diagnosis.status->set_in_doubt(3);
  diagnosis.status->set_server("db1:3306");
  EXPECT_THAT(RenderDiagnosis(diagnosis), testing::StartsWith("orders, 3 branches in doubt, server db1:3306\n"));
}

TEST(DoctorTest, WhatTheRecoverySeesIsAFindingUnlessItIsWell) {
  v1::ResourceStatus status;
  status.set_resource("orders");
  for (const auto state : {v1::ResourceStatus::STATE_OK, v1::ResourceStatus::STATE_UNKNOWN}) {
    status.set_state(state);
    EXPECT_FALSE(FindingOf(status, kNow).has_value());
  }
  SetTime(kNow - absl::Seconds(9), status.mutable_since());
  status.set_detail("refused");
  status.set_state(v1::ResourceStatus::STATE_UNREACHABLE);
  absl::optional<v1::Finding> finding = FindingOf(status, kNow);
  ASSERT_TRUE(finding.has_value());
  EXPECT_EQ(finding->severity(), v1::Finding::SEVERITY_ERROR);
  EXPECT_EQ(finding->detail(), "UNREACHABLE since 2023-11-14T22:13:11.000Z (9s ago): refused");
  EXPECT_THAT(finding->remedy(), HasSubstr("assentctl retry --resource orders"));
  status.set_state(v1::ResourceStatus::STATE_QUARANTINED);
  finding = FindingOf(status, kNow);
  ASSERT_TRUE(finding.has_value());
  EXPECT_EQ(finding->severity(), v1::Finding::SEVERITY_ERROR);
  EXPECT_THAT(finding->remedy(), HasSubstr("register orders --replace  #"));
  status.set_detail(
      "another server answers; correct the address, or accept it: `assentctl resources register orders --replace "
      "--accept-server`");
  EXPECT_THAT(FindingOf(status, kNow)->remedy(),
              testing::EndsWith("resources register orders --replace --accept-server"));
  // What a table that is gone needs disarms nothing.
  status.set_detail(
      "the table assent.witness is missing: no new branches there; `assentctl resources register orders --replace` "
      "makes it again");
  EXPECT_THAT(FindingOf(status, kNow)->remedy(), testing::EndsWith("resources register orders --replace"));
}

TEST(DoctorTest, TheSummaryCounts) {
  EXPECT_EQ(RenderSummary({}), "No resources are registered.\n");
  Diagnosis sick = DiagnosisOf("payments");
  sick.check.add_findings()->set_severity(v1::Finding::SEVERITY_ERROR);
  EXPECT_EQ(RenderSummary({DiagnosisOf("orders"), sick}), "2 resources: 1 error, 2 warnings\n");
  EXPECT_EQ(RenderSummary({DiagnosisOf("orders")}), "1 resource: 0 errors, 1 warning\n");
}

TEST(DoctorTest, JsonIsOneDocument) {
  Diagnosis known = DiagnosisOf("payments");
  known.status.emplace();
  known.status->set_state(v1::ResourceStatus::STATE_QUARANTINED);
  google::protobuf::Struct json;
  for (const std::vector<Diagnosis>& diagnoses :
       {std::vector<Diagnosis>(), std::vector<Diagnosis>{DiagnosisOf("orders"), known}}) {
    json.Clear();
    const auto status = google::protobuf::util::JsonStringToMessage(DiagnosesToJson(diagnoses), &json);
    ASSERT_TRUE(status.ok()) << status << DiagnosesToJson(diagnoses);
    EXPECT_EQ(json.fields().at("resources").list_value().values_size(), static_cast<int>(diagnoses.size()));
  }
  const auto& second = json.fields().at("resources").list_value().values(1).struct_value().fields();
  EXPECT_EQ(second.at("resource").string_value(), "payments");
  EXPECT_EQ(second.at("check").struct_value().fields().at("findings").list_value().values_size(), 2);
  EXPECT_EQ(second.at("status").struct_value().fields().at("state").string_value(), "STATE_QUARANTINED");
}

}  // namespace
}  // namespace assent
