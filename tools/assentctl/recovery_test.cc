#include "tools/assentctl/recovery.h"

#include <iostream>
#include <memory>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errors.h"
#include "base/grpc_status.h"
#include "base/timestamp.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace assent {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1700000000);

v1::ResourceReport* AddReport(const std::string& name, v1::ResourceStatus::State state, v1::RecoverResponse* response) {
  v1::ResourceReport* report = response->add_resources();
  report->mutable_status()->set_resource(name);
  report->mutable_status()->set_state(state);
  return report;
}

TEST(ReportTest, EachXidWithWhatWasFoundAndDone) {
  v1::RecoverResponse response;
  EXPECT_EQ(RenderReport(response, false, kNow), "No resources are registered.\n");
  v1::ResourceReport* report = AddReport("orders", v1::ResourceStatus::STATE_OK, &response);
  EXPECT_EQ(RenderReport(response, false, kNow),
            "orders: OK; no ghosts\nnothing is prepared and nothing is to be finished\n");
  report->set_ghosts(1);
  v1::XidReport* ours = report->add_xids();
  ours->set_kind(v1::XidReport::KIND_OURS);
  ours->set_gtrid("shop-1");
  ours->set_bqual("b1");
  ours->set_state(v1::Global::STATE_COMMITTING);
  ours->set_decision(v1::DECISION_COMMIT);
  ours->mutable_evidence()->set_outcome(v1::BRANCH_OUTCOME_COMMITTED);
  ours->mutable_evidence()->set_witness(v1::Evidence::SIGHTING_PRESENT);
  ours->set_action("committed");
  v1::XidReport* orphan = report->add_xids();
  orphan->set_kind(v1::XidReport::KIND_ORPHAN);
  orphan->set_gtrid("shop-2");
  orphan->set_bqual("b1");
  orphan->set_action("is rolled back in 40s");
  v1::XidReport* foreign = report->add_xids();
  foreign->set_kind(v1::XidReport::KIND_FOREIGN);
  foreign->set_format_id(1);
  foreign->set_gtrid("0xff00");
  report->set_xids_omitted(3);
  const std::string text = RenderReport(response, false, kNow);
  EXPECT_THAT(text,
              AllOf(HasSubstr("orders: OK; 1 ghost (prepared, with locks, and lost sight of by the server)"),
                    HasSubstr("  DONE\n"),
                    ContainsRegex("OURS +shop-1 +b1 +COMMITTING +COMMIT +COMMITTED +committed\n +witness present\n"),
                    ContainsRegex("ORPHAN +shop-2 +b1 +no record +nothing proven +is rolled back in 40s\n"),
                    ContainsRegex("FOREIGN .format 1. +0xff00 +no record"), HasSubstr("3 more are not shown\n")));
  EXPECT_THAT(RenderReport(response, true, kNow), HasSubstr("  WOULD BE DONE\n"));
}

TEST(ReportTest, AResourceThatCouldNotBeSweptSaysWhyAndSinceWhen) {
  v1::RecoverResponse response;
  AddReport("orders", v1::ResourceStatus::STATE_OK, &response)->set_ghosts(-1);
  v1::ResourceReport* report = AddReport("payments", v1::ResourceStatus::STATE_QUARANTINED, &response);
  report->mutable_status()->set_detail("another server answers");
  SetTime(kNow - absl::Seconds(5), report->mutable_status()->mutable_since());
  EXPECT_EQ(RenderReport(response, false, kNow),
            "orders: OK; ghosts could not be counted (see assentctl doctor)\n"
            "nothing is prepared and nothing is to be finished\n\n"
            "payments: QUARANTINED: another server answers; since 2023-11-14T22:13:15.000Z (5s ago)\n");
}

TEST(ResolutionTest, WordsAndValuesAreOneToOne) {
  EXPECT_THAT(ResolutionWords(), testing::ElementsAre("committed", "rolled-back", "acknowledged"));
  for (const std::string& word : ResolutionWords()) EXPECT_NE(ResolutionOf(word), v1::RESOLUTION_UNSPECIFIED);
  EXPECT_EQ(ResolutionOf("rolled-back"), v1::RESOLUTION_ROLLED_BACK);
  EXPECT_EQ(ResolutionOf("unspecified"), v1::RESOLUTION_UNSPECIFIED);
}

// A coordinator that answers what it is told and keeps what it was asked, in order: what assentctl does between the
// look and the word is not visible from outside.
class ScriptedCoordinator : public v1::CoordinatorService::Service {
 public:
  grpc::Status GetGlobal(grpc::ServerContext*, const v1::GetGlobalRequest*, v1::GetGlobalResponse* response) override {
    *response = global_;
    return grpc::Status::OK;
  }
  grpc::Status ResolveBranch(grpc::ServerContext*, const v1::ResolveBranchRequest* request,
                             v1::ResolveBranchResponse* response) override {
    asked_.push_back(*request);
    if (!refusal_.ok()) return ToGrpcStatus(refusal_);
    *response = resolved_;
    return grpc::Status::OK;
  }

  v1::GetGlobalResponse global_;
  v1::ResolveBranchResponse resolved_;
  absl::Status refusal_;
  std::vector<v1::ResolveBranchRequest> asked_;
};

class ResolveTest : public testing::Test {
 protected:
  void SetUp() override {
    v1::Global* global = coordinator_.global_.mutable_global();
    global->set_gtrid("shop-1");
    global->set_state(v1::Global::STATE_COMMITTING);
    global->set_decision(v1::DECISION_COMMIT);
    v1::Branch* branch = global->add_branches();
    branch->set_bqual("b1");
    branch->set_resource("orders");
    branch->set_state(v1::Branch::STATE_PREPARED);
    coordinator_.global_.set_etag("7");
    coordinator_.resolved_.set_etag("8");
    *coordinator_.resolved_.mutable_global() = *global;
    coordinator_.resolved_.mutable_global()->set_state(v1::Global::STATE_COMMITTED);
    coordinator_.resolved_.mutable_global()->mutable_branches(0)->set_state(v1::Branch::STATE_COMMITTED);
    coordinator_.resolved_.mutable_evidence()->set_detail("the server has no witness table");
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&coordinator_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    options_.address = absl::StrCat("127.0.0.1:", port);
    options_.timeout = absl::Minutes(1);
    request_.set_gtrid("shop-1");
    request_.set_bqual("b1");
    request_.set_resolution(v1::RESOLUTION_COMMITTED);
    request_.set_reason("seen by hand");
  }

  // The exit code; out_ and err_ are what it said. `typed` is what stands on standard input.
  int Resolve(bool yes, const std::string& typed) {
    auto session = Session::Open(options_);
    EXPECT_TRUE(session.ok()) << session.status();
    std::istringstream in(typed);
    std::ostringstream out, err;
    std::streambuf* const streams[] = {std::cin.rdbuf(in.rdbuf()), std::cout.rdbuf(out.rdbuf()),
                                       std::cerr.rdbuf(err.rdbuf())};
    std::cin.clear();
    const int code = ResolveBranch(session->get(), request_, yes);
    std::cin.rdbuf(streams[0]);
    std::cout.rdbuf(streams[1]);
    std::cerr.rdbuf(streams[2]);
    out_ = out.str();
    err_ = err.str();
    return code;
  }

  // What was asked: validate_only of each call. All of it is about the state that was shown.
  std::vector<bool> Asked() {
    std::vector<bool> asked;
    for (v1::ResolveBranchRequest request : coordinator_.asked_) {
      asked.push_back(request.validate_only());
      EXPECT_EQ(request.etag(), "7");
      request.clear_etag();
      request.clear_validate_only();
      EXPECT_EQ(request.SerializeAsString(), request_.SerializeAsString());
    }
    return asked;
  }

  ScriptedCoordinator coordinator_;
  std::unique_ptr<grpc::Server> server_;
  SessionOptions options_;
  v1::ResolveBranchRequest request_;
  std::string out_, err_;
};

TEST_F(ResolveTest, LooksShowsAsksAndThenDeclaresTheStateThatItShowed) {
  EXPECT_EQ(Resolve(false, "yes\n"), kExitOk);
  EXPECT_THAT(Asked(), testing::ElementsAre(true, false));
  EXPECT_THAT(out_, AllOf(HasSubstr("Branch      b1 on orders\n"),
                          HasSubstr("Now         branch PREPARED; transaction COMMITTING\n"),
                          HasSubstr("Found       nothing proven\n            the server has no witness table\n"),
                          HasSubstr("Then        branch COMMITTED; transaction COMMITTED\n"),
                          HasSubstr("declared: branch COMMITTED; transaction COMMITTED\n")));
  EXPECT_EQ(err_, "Type yes to declare it: ");
}

TEST_F(ResolveTest, AnythingButYesDeclaresNothing) {
  for (const char* typed : {"", "\n", "y\n", "Yes\n", "no\nyes\n", "yes please\n"}) {
    coordinator_.asked_.clear();
    EXPECT_EQ(Resolve(false, typed), kExitError) << typed;
    EXPECT_THAT(Asked(), testing::ElementsAre(true)) << typed;
    EXPECT_THAT(err_, HasSubstr("nothing was declared"));
    EXPECT_THAT(out_, Not(HasSubstr("declared:")));
  }
}

TEST_F(ResolveTest, YesOnTheCommandLineLooksFirstAllTheSame) {
  EXPECT_EQ(Resolve(true, ""), kExitOk);
  EXPECT_THAT(Asked(), testing::ElementsAre(true, false));
  EXPECT_EQ(err_, "");
}

TEST_F(ResolveTest, ARefusedLookIsTheEnd) {
  coordinator_.refusal_ = MakeError(Reason::RESOLUTION_REFUSED, "its witness is there");
  EXPECT_EQ(Resolve(true, "yes\n"), kExitError);
  EXPECT_THAT(Asked(), testing::ElementsAre(true));
  EXPECT_EQ(out_, "");
  EXPECT_THAT(err_, AllOf(HasSubstr("RESOLUTION_REFUSED"), HasSubstr("its witness is there")));
}

TEST_F(ResolveTest, AsJsonTheOutputIsTheAnswerAlone) {
  options_.json = true;
  EXPECT_EQ(Resolve(false, "yes\n"), kExitOk);
  EXPECT_THAT(out_, AllOf(testing::StartsWith("{"), HasSubstr("\"etag\": \"8\""), Not(HasSubstr("Found"))));
  EXPECT_THAT(err_, HasSubstr("Found       nothing proven\n"));
}

}  // namespace
}  // namespace assent
