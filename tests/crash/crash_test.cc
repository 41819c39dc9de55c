// assentd is killed with -9 at random moments under load, also while it starts: no decision is lost, none is changed,
// none is invented.
//
//   --kills=N  (or ASSENT_CRASH_KILLS)  how often; the default fits tools/test, 1,000 take five to twelve minutes
//   --seed=N   (or ASSENT_CRASH_SEED)   of what clients do and when it is killed; a random one is printed
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/errors.h"
#include "gtest/gtest.h"
#include "tests/crash/book.h"
#include "tests/crash/load.h"
#include "tests/fixtures/assentd.h"
#include "tests/fixtures/coordinator_api.h"

namespace assent {
namespace {

int64_t g_kills = 200;
uint64_t g_seed = 0;

constexpr int kClients = 12;
// How long it lives between kills.
constexpr int kMaxLifeMs = 120;
// One kill in so many comes while it starts, at a moment before it usually serves.
constexpr int kKillAtStartOneIn = 6;
constexpr int kMaxStartMs = 60;
constexpr size_t kLooksPerKill = 300;
constexpr int64_t kKillsPerLine = 100;
// Above the longest timeout of the load, so that at the end nothing may be undecided.
constexpr absl::Duration kSettle = absl::Seconds(5);

void LookAt(const std::string& gtrid, CoordinatorApi* api, Book* book) {
  const Book::Expectation expectation = book->Expect(gtrid);
  const absl::StatusOr<v1::GetGlobalResponse> response = api->GetGlobal(gtrid);
  if (response.ok()) {
    book->Check(gtrid, expectation, &response->global());
  } else if (ReasonOf(response.status()) == Reason::GLOBAL_NOT_FOUND) {
    book->Check(gtrid, expectation, nullptr);
  } else {
    book->Violate(absl::StrCat("UNEXPECTED: GetGlobal ", gtrid, ": ", ToText(response.status())));
  }
}

// Everything at once: whatever clients know must be there, and whatever is there must be known.
void LookAtAll(CoordinatorApi* api, Book* book) {
  std::map<std::string, Book::Expectation> expectations;
  for (const std::string& name : book->AllNames()) expectations[name] = book->Expect(name);
  const absl::StatusOr<std::vector<v1::Global>> globals = api->ListAllGlobals();
  ASSERT_TRUE(globals.ok()) << globals.status();
  for (const v1::Global& global : *globals) {
    book->Check(global.gtrid(), expectations[global.gtrid()], &global);
    book->CheckDeadline(global, absl::Now());
    expectations.erase(global.gtrid());
  }
  for (const auto& missing : expectations) book->Check(missing.first, missing.second, nullptr);
}

std::string Percentile(std::vector<absl::Duration> durations, double fraction) {
  if (durations.empty()) return "-";
  std::sort(durations.begin(), durations.end());
  const size_t i = static_cast<size_t>(static_cast<double>(durations.size() - 1) * fraction);
  return absl::StrCat(absl::ToInt64Milliseconds(durations[i]), " ms");
}

class CrashTest : public testing::Test {
 protected:
  void SetUp() override {
    Assentd::Options options;
    options.cluster = "crash";
    options.extra = {"--log-level=warning"};
    auto daemon = Assentd::Start(options);
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
    CoordinatorApi api(daemon_->address());
    const absl::Status registered = api.RegisterNowhere(kCrashResource);
    ASSERT_TRUE(registered.ok()) << registered;
  }

  int Draw(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  // Kills it, sometimes again while it starts, and returns when it serves.
  void KillAndRestart() {
    ASSERT_TRUE(daemon_->running());
    daemon_->Kill9();
    ++kills_;
    while (Draw(1, kKillAtStartOneIn) == 1) {
      ASSERT_TRUE(daemon_->BeginRestart().ok());
      absl::SleepFor(absl::Milliseconds(Draw(0, kMaxStartMs)));
      daemon_->Kill9();
      ++kills_;
      ++kills_at_start_;
    }
    const absl::Status started = daemon_->Restart();
    ASSERT_TRUE(started.ok()) << started;
    starts_.push_back(daemon_->start_duration());
  }

  std::mt19937_64 random_{g_seed};
  std::unique_ptr<Assentd> daemon_;
  int64_t kills_ = 0;
  int64_t kills_at_start_ = 0;
  std::vector<absl::Duration> starts_;
};

TEST_F(CrashTest, NoDecisionIsLostChangedOrInvented) {
  std::cout << "seed " << g_seed << ", " << g_kills << " kills" << std::endl;
  const absl::Time begin = absl::Now();
  Book book;
  int64_t told = 0;
  Load load(&book, daemon_->address(), kClients, g_seed);
  while (kills_ < g_kills && book.Violations().empty()) {
    absl::SleepFor(absl::Milliseconds(Draw(0, kMaxLifeMs)));
    KillAndRestart();
    if (HasFatalFailure()) return;
    load.Reconnect();
    // A new connection for each life: the old one would first have to find out.
    CoordinatorApi api(daemon_->address());
    for (const std::string& gtrid : book.TakeTouched(kLooksPerKill)) LookAt(gtrid, &api, &book);
    if (kills_ / kKillsPerLine != told / kKillsPerLine) {
      std::cout << kills_ << " kills after " << absl::Now() - begin << std::endl;
    }
    told = kills_;
  }
  absl::SleepFor(absl::Seconds(1));  // A life without a kill: clients get to the end of what they are doing.
  load.Stop();
  absl::SleepFor(kSettle);
  CoordinatorApi api(daemon_->address());
  LookAtAll(&api, &book);

  std::cout << kills_ << " kills (" << kills_at_start_ << " of them while it started) in " << absl::Now() - begin
            << "; starts: median " << Percentile(starts_, 0.5) << ", 99 % " << Percentile(starts_, 0.99) << ", slowest "
            << Percentile(starts_, 1) << "\n";
  std::map<std::string, int64_t> counts = book.Counts();
  for (const auto& count : counts) std::cout << "  " << count.first << ": " << count.second << "\n";
  for (const auto& error : load.TransportErrors()) {
    std::cout << "  calls without an answer, " << error.first << ": " << error.second << "\n";
  }
  for (const std::string& violation : book.Violations()) ADD_FAILURE() << violation << " (seed " << g_seed << ")";
  // The load has to have been one: every kind of end must have happened, or nothing was shown.
  EXPECT_GE(counts["created"], g_kills);
  EXPECT_GT(counts["decided COMMIT"], g_kills / 4);
  EXPECT_GT(counts["decided ROLLBACK"], g_kills / 10);
  EXPECT_GT(counts["finished"], g_kills / 4);
}

// A book that finds nothing wrong with anything would make the test above worthless.
TEST(BookTest, NoticesWhatIsLostChangedAndInvented) {
  v1::CreateGlobalRequest create;
  create.set_gtrid("crash-x");
  create.set_expected_branches(1);
  v1::Global record;
  record.set_gtrid("crash-x");
  record.add_branches()->set_bqual("b0");
  const auto violations_of = [&](const std::function<void(Book*)>& story) {
    Book book;
    book.SendCreate(create);
    book.ToldCreated("crash-x");
    story(&book);
    return book.Violations().size();
  };
  const auto decided = [&record](v1::Decision decision, v1::DecisionCause cause) {
    v1::Global result = record;
    result.set_decision(decision);
    result.set_cause(cause);
    return result;
  };
  v1::PreparedRequest votes;
  votes.add_votes()->set_bqual("b0");
  votes.mutable_votes(0)->set_kind(v1::VOTE_KIND_PREPARED);
  const v1::Global committed = decided(v1::DECISION_COMMIT, v1::DECISION_CAUSE_FINALIZE);
  EXPECT_EQ(violations_of([&](Book* book) { book->Check("crash-x", book->Expect("crash-x"), &record); }), 0u);
  EXPECT_EQ(violations_of([](Book* book) { book->Check("crash-x", book->Expect("crash-x"), nullptr); }), 1u) << "lost";
  EXPECT_EQ(violations_of([&](Book* book) { book->Check("crash-y", Book::Expectation(), &record); }), 1u) << "invented";
  EXPECT_EQ(violations_of([&](Book* book) {
              book->SendDecision("crash-x", v1::DECISION_COMMIT);
              book->Check("crash-x", book->Expect("crash-x"), &committed);
            }),
            1u)
      << "no vote";
  EXPECT_EQ(violations_of([&](Book* book) {
              book->SendVotes("crash-x", votes.votes());
              book->Check("crash-x", book->Expect("crash-x"), &committed);
            }),
            1u)
      << "nobody asked";
  EXPECT_EQ(violations_of([&](Book* book) {
              book->SendVotes("crash-x", votes.votes());
              book->SendDecision("crash-x", v1::DECISION_COMMIT);
              book->Check("crash-x", book->Expect("crash-x"), &committed);
            }),
            0u);
  EXPECT_EQ(violations_of([&](Book* book) {
              v1::GlobalStatus told;
              told.set_gtrid("crash-x");
              told.set_decision(v1::DECISION_ROLLBACK);
              book->ToldStatus(told);
              book->SendVotes("crash-x", votes.votes());
              book->SendDecision("crash-x", v1::DECISION_COMMIT);
              book->Check("crash-x", book->Expect("crash-x"), &committed);
            }),
            1u)
      << "changed";
  EXPECT_EQ(violations_of([&](Book* book) {
              v1::GlobalStatus told;
              told.set_gtrid("crash-x");
              told.set_decision(v1::DECISION_COMMIT);
              book->ToldStatus(told);
              book->Check("crash-x", book->Expect("crash-x"), &record);
            }),
            1u)
      << "decision lost";
  EXPECT_EQ(violations_of([&](Book* book) {
              book->SendVotes("crash-x", votes.votes());
              book->ToldVotes("crash-x", votes.votes());
              book->Check("crash-x", book->Expect("crash-x"), &record);
            }),
            1u)
      << "vote lost";
}

template <typename Number>
void ReadNumber(absl::string_view text, absl::string_view what, Number* out) {
  if (absl::SimpleAtoi(text, out)) return;
  std::cerr << what << " is not a number: " << text << "\n";
  std::exit(2);
}

}  // namespace
}  // namespace assent

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  assent::g_seed = std::random_device{}();
  if (const char* kills = std::getenv("ASSENT_CRASH_KILLS")) assent::ReadNumber(kills, "kills", &assent::g_kills);
  if (const char* seed = std::getenv("ASSENT_CRASH_SEED")) assent::ReadNumber(seed, "seed", &assent::g_seed);
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (absl::ConsumePrefix(&argument, "--kills=")) {
      assent::ReadNumber(argument, "--kills", &assent::g_kills);
    } else if (absl::ConsumePrefix(&argument, "--seed=")) {
      assent::ReadNumber(argument, "--seed", &assent::g_seed);
    } else {
      std::cerr << "unknown argument " << argument << "\n";
      return 2;
    }
  }
  return RUN_ALL_TESTS();
}
