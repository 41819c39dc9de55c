#include "tests/crash/load.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "base/grpc_status.h"
#include "base/timestamp.h"

namespace assent {
namespace {

constexpr absl::Duration kAttempt = absl::Seconds(5);
// Between attempts, unless Reconnect comes first.
constexpr absl::Duration kPause = absl::Milliseconds(20);
constexpr absl::Duration kLongTimeout = absl::Seconds(3);
constexpr int kMaxBranches = 4;
constexpr int kFinalizeTries = 20;

// An answer of the coordinator, as opposed to its absence.
bool IsAnswer(const absl::Status& status) {
  return status.ok() || (ReasonOf(status) && !IsRetryable(status) && !absl::IsUnavailable(status));
}

}  // namespace

enum class Way { kVotesWithFinalize, kFinalizeAfterVotes, kWaiters, kWhenAllPrepared, kRival, kRollback };

struct Load::Plan {
  std::string gtrid;
  Way way = Way::kVotesWithFinalize;
  int branches = 1;
  bool created_at_once = true;
  bool forgotten = false;  // Its client goes away before it has voted; the deadline has to end it.
  absl::Duration timeout;
  std::vector<v1::Vote> votes;
};

Load::Load(Book* book, std::string address, int clients, uint64_t seed)
    : book_(book), address_(std::move(address)), seed_(seed) {
  Reconnect();
  for (int i = 0; i < clients; ++i) clients_.emplace_back([this, i] { RunClient(i); });
}

Load::~Load() { Stop(); }

void Load::Reconnect() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  std::shared_ptr<Stub> stub = v1::CoordinatorService::NewStub(
      grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments));
  {
    MutexLock lock(&mutex_);
    stub_ = std::move(stub);
  }
  changed_.NotifyAll();
}

void Load::Stop() {
  stop_ = true;
  changed_.NotifyAll();
  for (std::thread& client : clients_) client.join();
  clients_.clear();
}

std::map<std::string, int64_t> Load::TransportErrors() {
  MutexLock lock(&mutex_);
  return transport_errors_;
}

std::shared_ptr<Load::Stub> Load::CurrentStub() {
  MutexLock lock(&mutex_);
  return stub_;
}

template <typename Request, typename Response>
absl::Status Load::Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                        const Request& request, Response* response) {
  while (!stop_) {
    const std::shared_ptr<Stub> stub = CurrentStub();
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kAttempt));
    response->Clear();
    const absl::Status status = FromGrpcStatus((stub.get()->*method)(&context, request, response));
    if (IsAnswer(status)) return status;
    MutexLock lock(&mutex_);
    ++transport_errors_[absl::StatusCodeToString(status.code())];
    if (stub_ == stub) changed_.WaitUntil(&mutex_, absl::ToChronoTime(absl::Now() + kPause));
  }
  return absl::CancelledError("stopped");
}

void Load::RunClient(int client) {
  Random random(seed_ * 1000 + static_cast<uint64_t>(client));
  for (int64_t i = 0; !stop_; ++i) RunTransaction(absl::StrCat("crash-", client, ".", i), &random);
}

Load::Plan Load::Draw(const std::string& gtrid, Random* random) {
  const auto one_in = [random](int n) { return std::uniform_int_distribution<int>(1, n)(*random) == 1; };
  Plan plan;
  plan.gtrid = gtrid;
  plan.way = static_cast<Way>(std::uniform_int_distribution<int>(0, static_cast<int>(Way::kRollback))(*random));
  plan.branches = std::uniform_int_distribution<int>(1, kMaxBranches)(*random);
  plan.created_at_once = !one_in(3);
  plan.forgotten = one_in(50);
  plan.timeout = one_in(10) ? absl::Milliseconds(std::uniform_int_distribution<int>(1, 60)(*random)) : kLongTimeout;
  for (int i = 0; i < plan.branches; ++i) {
    v1::Vote vote;
    vote.set_bqual(absl::StrCat("b", i));
    vote.set_kind(v1::VOTE_KIND_PREPARED);
    if (one_in(15)) {
      vote.set_kind(v1::VOTE_KIND_READ_ONLY);
    } else if (one_in(30)) {
      vote.set_kind(v1::VOTE_KIND_FAILED);
      vote.set_rolled_back(true);
      vote.mutable_failure()->set_message("made to fail");
    }
    plan.votes.push_back(std::move(vote));
  }
  return plan;
}

bool Load::Create(const Plan& plan) {
  v1::CreateGlobalRequest request;
  request.set_gtrid(plan.gtrid);
  SetDuration(plan.timeout, request.mutable_timeout());
  request.set_policy(plan.way == Way::kWhenAllPrepared ? v1::DECISION_POLICY_WHEN_ALL_PREPARED
                                                       : v1::DECISION_POLICY_ON_FINALIZE);
  request.set_expected_branches(plan.branches);
  v1::CreateBranchesRequest rest;
  rest.set_gtrid(plan.gtrid);
  for (const v1::Vote& vote : plan.votes) {
    const bool first = plan.created_at_once || request.branches_size() == 0;
    v1::BranchSpec* const branch = first ? request.add_branches() : rest.add_branches();
    branch->set_bqual(vote.bqual());
    branch->set_resource(kCrashResource);
  }
  book_->SendCreate(request);
  v1::CreateGlobalResponse created;
  absl::Status status = Call(&Stub::CreateGlobal, request, &created);
  if (absl::IsCancelled(status)) return false;
  if (!status.ok()) {
    book_->ToldError(plan.gtrid, "CreateGlobal", status, {});
    return false;
  }
  book_->ToldCreated(plan.gtrid);
  if (rest.branches_size() == 0) return true;
  v1::CreateBranchesResponse added;
  status = Call(&Stub::CreateBranches, rest, &added);
  if (!status.ok() && !absl::IsCancelled(status)) book_->ToldError(plan.gtrid, "CreateBranches", status, {});
  return status.ok();
}

absl::optional<v1::GlobalStatus> Load::Booked(const std::string& gtrid, absl::string_view call,
                                              const absl::Status& status, const v1::GlobalStatus& answer,
                                              const Book::Expectation& before) {
  if (absl::IsCancelled(status)) return absl::nullopt;
  if (!status.ok()) {
    book_->ToldError(gtrid, call, status, before);
    const absl::optional<Reason> reason = ReasonOf(status);
    v1::GlobalStatus refused;
    refused.set_gtrid(gtrid);
    if (reason == Reason::GLOBAL_ROLLED_BACK) refused.set_decision(v1::DECISION_ROLLBACK);
    if (reason == Reason::GLOBAL_COMMITTED) refused.set_decision(v1::DECISION_COMMIT);
    return refused;
  }
  book_->ToldStatus(answer);
  return answer;
}

absl::optional<v1::GlobalStatus> Load::Vote(const std::string& gtrid, const std::vector<v1::Vote>& votes,
                                            v1::Wait wait) {
  v1::PreparedRequest request;
  request.set_gtrid(gtrid);
  *request.mutable_votes() = {votes.begin(), votes.end()};
  request.set_wait(wait);
  book_->SendVotes(gtrid, request.votes());
  const Book::Expectation before = book_->Expect(gtrid);
  for (;;) {
    v1::PreparedResponse response;
    const absl::Status status = Call(&Stub::Prepared, request, &response);
    if (status.ok()) book_->ToldVotes(gtrid, request.votes());
    const absl::optional<v1::GlobalStatus> told = Booked(gtrid, "Prepared", status, response.status(), before);
    // A wait that was cut short is taken up again, as the SDK does.
    if (!told || !status.ok() || wait == v1::WAIT_NONE || told->decision() != v1::DECISION_UNSPECIFIED) return told;
  }
}

absl::optional<v1::GlobalStatus> Load::Finalize(const std::string& gtrid, v1::Decision decision,
                                                const std::vector<v1::Vote>& votes) {
  v1::FinalizeRequest request;
  request.set_gtrid(gtrid);
  request.set_decision(decision);
  *request.mutable_votes() = {votes.begin(), votes.end()};
  request.set_wait(v1::WAIT_DECIDED);
  book_->SendVotes(gtrid, request.votes());
  book_->SendDecision(gtrid, decision);
  const Book::Expectation before = book_->Expect(gtrid);
  v1::FinalizeResponse response;
  const absl::Status status = Call(&Stub::Finalize, request, &response);
  if (status.ok() && response.status().decision() == v1::DECISION_COMMIT) book_->ToldVotes(gtrid, request.votes());
  return Booked(gtrid, "Finalize", status, response.status(), before);
}

absl::optional<v1::GlobalStatus> Load::DecideWithVotes(const Plan& plan) {
  return Finalize(plan.gtrid, v1::DECISION_COMMIT, plan.votes);
}

absl::optional<v1::GlobalStatus> Load::DecideAfterVotes(const Plan& plan) {
  for (const v1::Vote& vote : plan.votes) {
    const absl::optional<v1::GlobalStatus> told = Vote(plan.gtrid, {vote}, v1::WAIT_NONE);
    if (!told || told->decision() != v1::DECISION_UNSPECIFIED) return told;
    if (plan.way == Way::kRollback) break;  // With some of the votes.
  }
  return Finalize(plan.gtrid, plan.way == Way::kRollback ? v1::DECISION_ROLLBACK : v1::DECISION_COMMIT, {});
}

absl::optional<v1::GlobalStatus> Load::DecideWithWaiters(const Plan& plan, Random* random) {
  std::vector<std::thread> waiters;
  for (const v1::Vote& vote : plan.votes) {
    waiters.emplace_back([this, &plan, vote] { Vote(plan.gtrid, {vote}, v1::WAIT_DECIDED); });
  }
  absl::optional<v1::GlobalStatus> told;
  if (plan.way == Way::kWaiters) {
    for (int i = 0; i < kFinalizeTries; ++i) {
      absl::SleepFor(absl::Milliseconds(std::uniform_int_distribution<int>(0, 10)(*random)));
      told = Finalize(plan.gtrid, v1::DECISION_COMMIT, {});
      if (!told || told->decision() != v1::DECISION_UNSPECIFIED) break;
    }
    if (told && told->decision() == v1::DECISION_UNSPECIFIED) told = Finalize(plan.gtrid, v1::DECISION_ROLLBACK, {});
  }
  for (std::thread& waiter : waiters) waiter.join();
  return plan.way == Way::kWaiters ? told : Vote(plan.gtrid, {}, v1::WAIT_DECIDED);
}

absl::optional<v1::GlobalStatus> Load::DecideWithRival(const Plan& plan) {
  std::thread rival([this, &plan] { Finalize(plan.gtrid, v1::DECISION_ROLLBACK, {}); });
  const absl::optional<v1::GlobalStatus> told = Finalize(plan.gtrid, v1::DECISION_COMMIT, plan.votes);
  rival.join();
  return told;
}

void Load::RunTransaction(const std::string& gtrid, Random* random) {
  const Plan plan = Draw(gtrid, random);
  if (!Create(plan) || plan.forgotten) return;
  absl::optional<v1::GlobalStatus> told;
  switch (plan.way) {
    case Way::kVotesWithFinalize: told = DecideWithVotes(plan); break;
    case Way::kFinalizeAfterVotes:
    case Way::kRollback: told = DecideAfterVotes(plan); break;
    case Way::kWaiters:
    case Way::kWhenAllPrepared: told = DecideWithWaiters(plan, random); break;
    case Way::kRival: told = DecideWithRival(plan); break;
  }
  if (told && told->decision() != v1::DECISION_UNSPECIFIED) Complete(plan, told->decision());
}

void Load::Complete(const Plan& plan, v1::Decision decision) {
  v1::CompletedRequest request;
  for (const v1::Vote& vote : plan.votes) {
    if (vote.kind() != v1::VOTE_KIND_PREPARED) continue;
    v1::Completion* const completion = request.add_completions();
    completion->set_gtrid(plan.gtrid);
    completion->set_bqual(vote.bqual());
    completion->set_result(decision == v1::DECISION_COMMIT ? v1::Completion::RESULT_COMMITTED
                                                           : v1::Completion::RESULT_ROLLED_BACK);
  }
  if (request.completions_size() == 0) return;
  v1::CompletedResponse response;
  const absl::Status status = Call(&Stub::Completed, request, &response);
  if (absl::IsCancelled(status)) return;
  if (!status.ok()) return book_->ToldError(plan.gtrid, "Completed", status, {});
  for (const v1::CompletionResult& result : response.results()) {
    if (result.has_error()) return book_->ToldError(plan.gtrid, "Completed", FromRpcStatus(result.error()), {});
    book_->ToldStatus(result.status());
  }
  // A branch whose vote was never sent may be left over after a ROLLBACK; the last answer says.
  const v1::Outcome outcome = response.results().rbegin()->status().outcome();
  if (outcome == v1::OUTCOME_COMMITTED || outcome == v1::OUTCOME_ROLLED_BACK) book_->ToldAllCompleted(plan.gtrid);
}

}  // namespace assent
