// The guard through the program: bad numbers on one rank, and what the recipe says to do about them; nothing bad in a
// checkpoint.
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

/// metrics.jsonl's lines that have this key, by step.
std::vector<std::int64_t> marked(const std::filesystem::path& run, const std::string& key) {
  std::vector<std::int64_t> steps;
  for (const std::string& line : lines_of(run / "metrics.jsonl"))
    if (const auto json = nlohmann::json::parse(line); json.contains(key)) steps.push_back(json.at("step"));
  return steps;
}

class Guarded : public Scene, public ::testing::WithParamInterface<int> {
 protected:
  int ranks() const { return GetParam(); }
  int bad_rank() const { return GetParam() / 2; }
};
INSTANTIATE_TEST_SUITE_P(Ranks, Guarded, ::testing::Values(0, 4));

// Exit 5 with place, cause and remedy, once; the checkpoints before stay good, and the same command goes on from them.
TEST_P(Guarded, ABadNumberStopsTheRunBeforeItReachesTheState) {
  struct Case {
    const char *how, *phase, *cause;
  };
  const Words words{"run.steps=7", "checkpoint.every=2"};
  for (const Case& c : {Case{"nan_weight", "forward",
                             "the weight of model.layers.1.mlp.shared_experts.down_proj.weight is NaN at [2, 5]"},
                        Case{"inf_activation", "forward", "the output of model.layers.1 is inf at element 37"},
                        Case{"nan_gradient", "optimizer",
                             "the gradient of model.layers.1.mlp.shared_experts.down_proj.weight is NaN at [2, 5]"}}) {
    const std::string name = c.how;
    const Result result = run(faulty({c.how, bad_rank(), c.phase, 5}, name, ranks(), words));
    SCOPED_TRACE(to_string(result));
    EXPECT_EQ(result.status, 5);
    ASSERT_EQ(result.error_lines().size(), 1u);
    const Status status = status_of(run_directory(name));
    EXPECT_EQ(status.state, "failed");
    EXPECT_EQ(status.exit_status, 5);
    EXPECT_EQ(status.place, "step 5");
    EXPECT_NE(status.remedy, "");
    for (const std::string& text : {status.cause, result.error_lines()[0]}) {
      EXPECT_NE(text.find(c.cause), std::string::npos) << text;
      EXPECT_NE(text.find("on rank " + std::to_string(bad_rank())), std::string::npos) << text;
    }
    EXPECT_EQ(saved_step(name), 4) << "the save that was begun before the bad step is finished";
    expect_ok(run(train(name, ranks(), words)));
    expect_each_step_once(run_directory(name), 7);
    EXPECT_EQ(marked(run_directory(name), "skipped"), std::vector<std::int64_t>());
  }
  // What went on from the checkpoints is the run that had no fault.
  expect_ok(run(train("whole", ranks(), words)));
  for (const char* how : {"nan_weight", "inf_activation", "nan_gradient"})
    expect_same_run(run_directory(how), run_directory("whole"));
}

TEST_P(Guarded, ABadStepIsSkippedAndMarked) {
  const Result result = run(faulty({"nan_gradient", bad_rank(), "optimizer", 3}, "skipped", ranks(),
                                   {"run.steps=6", "guard.non_finite=skip"}));
  expect_ok(result);
  EXPECT_NE(result.errors.find("its update is skipped"), std::string::npos) << to_string(result);
  expect_each_step_once(run_directory("skipped"), 6);
  EXPECT_EQ(marked(run_directory("skipped"), "skipped"), std::vector<std::int64_t>{3});
  expect_ok(run(fourmi({"checkpoint", "verify", run_directory("skipped")})));
}

TEST_P(Guarded, AWeightThatIsBadIsNotSkippedOver) {
  const Result result = run(
      faulty({"nan_weight", bad_rank(), "forward", 3}, "weight", ranks(), {"run.steps=6", "guard.non_finite=skip"}));
  EXPECT_EQ(result.status, 5) << to_string(result);
  EXPECT_NE(result.errors.find("guard.non_finite=rollback"), std::string::npos) << to_string(result);
}

TEST_P(Guarded, AStateThatIsBadIsNeverSaved) {
  const Result result =
      run(faulty({"nan_state", bad_rank(), "save", 4}, "state", ranks(), {"run.steps=8", "checkpoint.every=2"}));
  EXPECT_EQ(result.status, 5) << to_string(result);
  ASSERT_EQ(result.error_lines().size(), 1u);
  EXPECT_NE(result.error_lines()[0].find("/optimizer/exp_avg_sq/"), std::string::npos);
  EXPECT_NE(result.error_lines()[0].find(" is NaN at "), std::string::npos);
  EXPECT_EQ(saved_step("state"), 2);
  expect_ok(run(train("state", ranks(), {"run.steps=8", "checkpoint.every=2"})));
}

// Back to step 4 (or the beginning), on with the data after the bad step; killed on the way, it is the same run.
TEST_P(Guarded, ARollbackGoesOnWithOtherDataAndSurvivesAKill) {
  for (const char* every : {"2", "0"}) {
    const Words words{"run.steps=9", std::string("checkpoint.every=") + every, "guard.non_finite=rollback"};
    const std::string whole = std::string("whole") + every, killed = std::string("killed") + every;
    const Result result = run(faulty({"nan_gradient", bad_rank(), "optimizer", 6}, whole, ranks(), words));
    SCOPED_TRACE(to_string(result));
    expect_ok(result);
    const int back = every[0] == '2' ? 4 : 0;
    EXPECT_NE(result.errors.find("back to step " + std::to_string(back)), std::string::npos);
    EXPECT_NE(result.errors.find("samples " + std::to_string(8 * back) + " to 48 are left out, rollback 1 of 3"),
              std::string::npos);
    expect_each_step_once(run_directory(whole), 9);
    EXPECT_EQ(step_lines(run_directory(whole), "metrics.superseded").size(), static_cast<std::size_t>(5 - back));
    const auto lines = lines_of(run_directory(whole) / "rollbacks.jsonl");
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_EQ(nlohmann::json::parse(lines[0]).at("bad_step"), 6);
    const auto manifest = nlohmann::json::parse(text_of(newest_checkpoint(run_directory(whole)) / "manifest.json"));
    EXPECT_NE(manifest.dump().find("left_out"), std::string::npos);

    // After the rollback, in the step after the checkpoint again: killed, and started without a fault.
    const std::string again = std::to_string(back + 1);
    Process job(faulty({"nan_gradient,wait", bad_rank(), "optimizer", 6, "," + again}, killed, ranks(), words));
    ASSERT_NE(fault_reached(), 0) << to_string(job.wait(Seconds(1)));
    job.kill_all();
    const Result resumed = run(train(killed, ranks(), words));
    expect_ok(resumed);
    EXPECT_NE(resumed.errors.find("launch 1 ended without a word"), std::string::npos) << to_string(resumed);
    expect_same_run(run_directory(killed), run_directory(whole));
  }
}

TEST_P(Guarded, RollbacksAreCountedOverLaunches) {
  const Words words{"run.steps=9", "checkpoint.every=2", "guard.non_finite=rollback", "guard.max_rollbacks=2"};
  const Result first =
      run(faulty({"nan_gradient,nan_gradient,error", bad_rank(), "optimizer", 3, ",4,5"}, "counted", ranks(), words));
  EXPECT_EQ(first.status, 4) << to_string(first);
  const Result second = run(faulty({"nan_gradient", bad_rank(), "optimizer", 6}, "counted", ranks(), words));
  EXPECT_EQ(second.status, 5) << to_string(second);
  ASSERT_EQ(second.error_lines().size(), 1u);
  EXPECT_NE(second.error_lines()[0].find("the run was rolled back 2 time(s)"), std::string::npos);
  EXPECT_EQ(lines_of(run_directory("counted") / "rollbacks.jsonl").size(), 2u);
}

// A gradient that is ten times as large is caught in its step, and no other step is.
TEST_P(Guarded, TenTimesTheGradientIsCaughtInItsStep) {
  const Result result = run(faulty({"times_10", -1, "optimizer", 60, ",75,90,91,110"}, "spikes", ranks(),
                                   {"run.steps=120", "guard.spike.action=skip", "guard.spike.window=64"}));
  expect_ok(result);
  EXPECT_EQ(marked(run_directory("spikes"), "skipped"), (std::vector<std::int64_t>{60, 75, 90, 91, 110}))
      << to_string(result);
  EXPECT_EQ(marked(run_directory("spikes"), "spike_z"), (std::vector<std::int64_t>{60, 75, 90, 91, 110}));
}

/// 5,000 clean steps, then the same with ten times the gradient at 100 random steps. (The suite's name gives it the
/// label `long`.)
class Campaign : public Scene, public ::testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Long, Campaign, ::testing::Values(0));

TEST_P(Campaign, FiveThousandCleanStepsAndAHundredSpikes) {
  const Words words{"run.steps=5000", "guard.spike.action=skip", "checkpoint.every=1000"};
  const auto limit = Seconds(550);
  const Result clean = run(train("clean", 0, words), {}, limit);
  expect_ok(clean);
  EXPECT_EQ(marked(run_directory("clean"), "skipped"), std::vector<std::int64_t>());
  std::mt19937 random(1913);
  std::set<std::int64_t> steps;
  while (steps.size() < 100) steps.insert(101 + static_cast<std::int64_t>(random() % 1900));
  Fault fault{"times_10", -1, "optimizer", static_cast<int>(*steps.begin())};
  for (std::int64_t step : steps)
    if (step != fault.step) fault.later += "," + std::to_string(step);
  const Result spoiled = run(faulty(fault, "spoiled", 0, {"run.steps=2000", "guard.spike.action=skip"}), {}, limit);
  expect_ok(spoiled);
  const std::vector<std::int64_t> caught = marked(run_directory("spoiled"), "skipped");
  std::int64_t right = 0;
  for (std::int64_t step : caught) right += steps.contains(step);
  EXPECT_GE(right, 95);
  EXPECT_EQ(right, std::ssize(caught)) << "a clean step was taken for a spike";
  RecordProperty("caught_of_100", static_cast<int>(right));
}

}  // namespace
}  // namespace fourmi::testing
