// One rank of four breaks, in every way and in every phase: the job is over in seconds, nobody is left, and status.json
// and one line say who, where and why.
#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

constexpr int ranks = 4;

/// What a fault must end in. Lost without a word: 7, said by a survivor; an exception: 1, said by the rank itself.
struct Wanted {
  int exit_status;
  std::string cause;
};
Wanted wanted_of(const std::string& how) {
  if (how == "exception") return {1, "a fault of the test"};
  if (how == "call") return {1, "found barrier of world (ranks 0, 1, 2, 3), expected "};
  if (how == "error") return {4, "a fault was found, none was expected"};
  return {7, "ended without a word"};
}

class Faults : public Scene {
 protected:
  /// Runs into the fault on four ranks, and looks at all that is promised.
  void break_and_look(const Fault& fault, const std::string& run_name, const Words& words) {
    const Wanted wanted = wanted_of(fault.how);
    Process job(faulty(fault, run_name, ranks, words));
    ASSERT_NE(fault_reached(), 0) << to_string(job.wait(Seconds(0)));
    const auto begin = std::chrono::steady_clock::now();
    const Result result = job.wait(Seconds(15));
    EXPECT_TRUE(wait_until([&] { return job.processes("faulty_fourmi").empty(); }, Seconds(5))) << "a rank is left";
    EXPECT_LT(Seconds(std::chrono::steady_clock::now() - begin).count(), 5.0);
    SCOPED_TRACE(to_string(result));
    EXPECT_EQ(result.status, wanted.exit_status);
    ASSERT_EQ(result.error_lines().size(), 1u);
    EXPECT_NE(result.error_lines()[0].find(wanted.cause), std::string::npos);
    expect_told(fault, wanted, status_of(run_directory(run_name)));
  }

 private:
  static void expect_told(const Fault& fault, const Wanted& wanted, const Status& status) {
    EXPECT_EQ(status.state, "failed");
    EXPECT_EQ(status.exit_status, wanted.exit_status);
    EXPECT_EQ(status.rank, fault.rank);
    EXPECT_NE(status.host, "");
    EXPECT_NE(status.remedy, "");
    EXPECT_NE(status.cause.find(wanted.cause), std::string::npos) << status.cause;
    if (wanted.exit_status != 7) {  // the rank's own word
      EXPECT_EQ(status.phase, fault.phase);
      return;
    }
    const std::string place = "rank " + std::to_string(fault.rank) + " on " + status.host + " in phase " + fault.phase;
    EXPECT_TRUE(status.place.starts_with(place)) << status.place;
  }
};

class FaultIn : public Faults, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Phase, FaultIn, ::testing::Values("start", "load", "forward", "backward", "optimizer", "save"),
                         [](const auto& phase) { return std::string(phase.param); });

int step_of(const std::string& phase) {
  return phase == "start" || phase == "load" ? 0 : phase == "save" ? 2 : 3;
}

TEST_P(FaultIn, EndsTheJobInSecondsAndSaysWhoWhereWhy) {
  const std::string phase = GetParam();
  const Words words{"run.steps=1000000", "checkpoint.every=2"};
  for (const char* how : {"exception", "kill", "segv", "exit"}) {
    const Fault fault{how, how[0] == 'k' ? 1 : 3, phase, step_of(phase)};
    SCOPED_TRACE(std::string(how) + " in " + phase);
    break_and_look(fault, how, words);
  }
}

// Nothing is special about ranks: the one that writes status.json may be the lost one.
TEST_F(Faults, RankZeroIsLost) {
  break_and_look({"kill", 0, "backward", 3}, "kill", {"run.steps=1000000", "checkpoint.every=2"});
  break_and_look({"segv", 0, "start", 0}, "segv", {"run.steps=1000000"});
  break_and_look({"exception", 0, "load", 0}, "exception", {"run.steps=1000000"});
}

TEST_F(Faults, AnErrorOfOneRankEndsAllWithItsStatus) {
  break_and_look({"error", 2, "optimizer", 3}, "error", {"run.steps=1000000"});
}

// Before anybody waits for it.
TEST_F(Faults, ACallThatOthersDoNotMakeIsNamed) {
  break_and_look({"call", 2, "optimizer", 3}, "call", {"run.steps=1000000", "guard.check_calls=true"});
}

TEST_F(Faults, RanksWithAnotherRecipeAreRefused) {
  Words words = on_ranks(3, train("other", 0, {"run.steps=4"}));
  const Words other = train("other", 0, {"run.steps=5"});
  words.insert(words.end(), {":", "-n", "1"});
  words.insert(words.end(), other.begin(), other.end());
  const Result result = run(words);
  SCOPED_TRACE(to_string(result));
  EXPECT_EQ(result.status, 3);
  ASSERT_EQ(result.error_lines().size(), 1u);
  for (const char* part : {"rank 3", "run.steps (5, 4 on rank 0)"})
    EXPECT_NE(result.error_lines()[0].find(part), std::string::npos) << part;
  EXPECT_FALSE(std::filesystem::exists(run_directory("other") / "metrics.jsonl"));
}

TEST_F(Faults, TheSameCommandGoesOnAfterALostRank) {
  const Words words{"run.steps=8", "checkpoint.every=2"};
  break_and_look({"segv", 2, "forward", 7}, "again", words);
  expect_ok(run(train("again", ranks, words)));
  expect_each_step_once(run_directory("again"), 8);
  EXPECT_EQ(status_of(run_directory("again")).launches, 2);
  EXPECT_EQ(status_of(run_directory("again")).state, "done");
}

}  // namespace
}  // namespace fourmi::testing
