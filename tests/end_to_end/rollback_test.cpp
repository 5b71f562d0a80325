// A rollback on four ranks with everything on that keeps a record: ledger, metrics, TensorBoard, rollbacks.jsonl. What
// was abandoned counts nowhere, what follows is other data, and a kill on the way changes nothing of that.
#include <map>
#include <random>

#include "tests/end_to_end/two_sources.h"
#include "tests/telemetry/event_records.h"

namespace fourmi::testing {
namespace {

using nlohmann::json;

constexpr int ranks = 4;
constexpr std::int64_t sequences = 8, step_tokens = sequences * 32;

class RolledBack : public Scene {
 protected:
  Words words(const Words& more = {}) const {
    return joined(two_sources(folder()), joined({"run.steps=12", "checkpoint.every=3", "guard.non_finite=rollback",
                                                 "logging.every=1", "checkpoint.keep={last: 2}"},
                                                more));
  }
  /// Bad gradients on rank 2 in these steps ("8" or "8,10").
  Words bad(const std::string& run_name, const Words& words, int step = 8, const std::string& later = "") const {
    return faulty({"nan_gradient", 2, "optimizer", step, later}, run_name, ranks, words);
  }
  /// A save is committed at the end of a step that finds its files written: step 7 gives them a second.
  void kill_after_step_6_is_saved(const std::string& run_name, const Words& words) const {
    Process job(faulty({"pause,wait", 1, "optimizer,forward", 7, ",8"}, run_name, ranks, words));
    ASSERT_NE(fault_reached(), 0) << to_string(job.wait(Seconds(1)));
    ASSERT_TRUE(wait_until([&] { return saved_step(run_name) == 6; }));
    job.kill_all();
  }
  std::vector<json> rollbacks(const std::string& run_name) const {
    std::vector<json> all;
    for (const std::string& line : lines_of(run_directory(run_name) / "rollbacks.jsonl"))
      all.push_back(json::parse(line));
    return all;
  }
  std::vector<json> entries(const std::string& run_name, const std::string& type, bool all = false) const {
    std::vector<json> found;
    for (const json& e : ledger_entries(run_directory(run_name), all))
      if (e.at("type") == type) found.push_back(e.at("payload"));
    return found;
  }

  /// All records of a run of 12 steps that read `left_out` samples beyond those that it learned from.
  void expect_records_agree(const std::string& run_name, std::int64_t left_out) const {
    SCOPED_TRACE(run_name);
    const std::filesystem::path directory = run_directory(run_name);
    expect_each_step_once(directory, 12);
    const auto metrics = step_lines(directory);
    EXPECT_EQ(metrics.back().tokens, 12 * step_tokens);
    const json traced = verified_trace(directory);
    EXPECT_EQ(traced.at("tokens"), metrics.back().tokens);
    EXPECT_EQ(traced.at("run_tokens"), metrics.back().tokens);

    // Position of the data: what was learned and what was left out. By source too: prose has three of four tokens of
    // both.
    const json training = saved_training(directory), position = training.at("position");
    EXPECT_EQ(position.at("samples"), 12 * sequences + left_out);
    EXPECT_EQ(position.at("tokens"), 12 * step_tokens + left_out * 32);
    ASSERT_EQ(traced.at("sources").size(), 2u);
    for (std::size_t s = 0; s < 2; ++s) {
      EXPECT_EQ(traced.at("sources")[s].at("name"), position.at("sources")[s].at("name"));
      const auto counted = traced.at("sources")[s].at("tokens").get<double>(),
                 read = position.at("sources")[s].at("tokens").get<double>();
      EXPECT_NEAR(read - counted, (s == 0 ? 0.75 : 0.25) * 32 * static_cast<double>(left_out), 3 * 32.0);
    }

    // Entries of the lineage, summed up here; steps without gap.
    std::int64_t step = 0, tokens = 0;
    for (const json& e : entries(run_name, "tokens")) {
      EXPECT_EQ(e.at("from_step"), step);
      step = e.at("to_step");
      for (const json& source : e.at("sources")) tokens += source.at("tokens").get<std::int64_t>();
    }
    EXPECT_EQ(step, 12);
    EXPECT_EQ(tokens, 12 * step_tokens);

    // TensorBoard draws what metrics.jsonl says, and nothing of what was abandoned.
    EXPECT_TRUE(goes_forward(directory / "tensorboard"));
    const auto curves = drawn(directory / "tensorboard");
    for (const char* tag : {"train/loss", "train/grad_norm"}) {
      ASSERT_TRUE(curves.contains(tag));
      EXPECT_EQ(curves.at(tag).size(), metrics.size());
    }
    for (const std::string& line : lines_of(directory / "metrics.jsonl")) {
      const json m = json::parse(line);
      EXPECT_EQ(curves.at("train/loss").at(m.at("step")), static_cast<float>(m.at("loss").get<double>())) << line;
      EXPECT_EQ(curves.at("train/grad_norm").at(m.at("step")), static_cast<float>(m.at("grad_norm").get<double>()));
    }
    expect_ok(run(fourmi({"checkpoint", "verify", directory})));
  }
};

TEST_F(RolledBack, WhatWasAbandonedCountsNowhereAndTheDataAfterwardsIsOther) {
  const Words words = this->words();
  expect_ok(run(train("clean", ranks, words)));
  expect_ok(run(bad("run", words)));
  expect_records_agree("clean", 0);
  expect_records_agree("run", 2 * sequences);  // those of steps 7 and 8

  const auto lines = rollbacks("run");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].at("bad_step"), 8);
  EXPECT_EQ(lines[0].at("step"), 6);
  const json left_out = saved_training(run_directory("run")).at("guard").at("left_out");
  EXPECT_EQ(left_out, json::parse(R"([{"step": 8, "first": 48, "last": 64}])"));
  EXPECT_EQ(entries("run", "rollback").size(), 1u);
  EXPECT_EQ(entries("run", "checkpoint").at(1).at("root"), lines[0].at("root"));

  // Up to step 6 the clean run; step 7 was made on its data too, and again on others.
  const auto run_steps = step_lines(run_directory("run")), clean = step_lines(run_directory("clean")),
             superseded = step_lines(run_directory("run"), "metrics.superseded");
  for (std::size_t i = 0; i < 6; ++i) EXPECT_TRUE(same_bits(run_steps[i], clean[i])) << i;
  ASSERT_EQ(superseded.size(), 1u);
  EXPECT_TRUE(same_bits(superseded[0], clean[6]));
  for (std::size_t i = 6; i < 12; ++i) EXPECT_NE(run_steps[i].loss_bits, clean[i].loss_bits) << i;
}

// The newest checkpoint cannot be proven: the rollback goes further back, and a branch with tokens of its own is
// abandoned.
TEST_F(RolledBack, ABranchWithCheckpointsOfItsOwnCountsNothing) {
  Process job(faulty({"pause,wait,nan_gradient", 2, "optimizer,forward,optimizer", 7, ",8,8"}, "run", ranks, words()));
  ASSERT_NE(fault_reached(), 0) << to_string(job.wait(Seconds(1)));
  ASSERT_TRUE(wait_until([&] { return saved_step("run") == 6; }));
  std::filesystem::resize_file(newest_checkpoint(run_directory("run")) / "rank-00001.h5", 1000);
  go_on();
  const Result result = job.wait();
  expect_ok(result);
  EXPECT_NE(result.errors.find("back to step 3"), std::string::npos) << to_string(result);
  expect_records_agree("run", 5 * sequences);
  const auto all = entries("run", "tokens", true), mine = entries("run", "tokens");
  EXPECT_EQ(all.size(), mine.size() + 1) << "steps 4 to 6, twice";
  EXPECT_EQ(entries("run", "checkpoint", true).size(), entries("run", "checkpoint").size() + 1);
}

TEST_F(RolledBack, TheLineageNamesEveryLaunchAndRollbackAfterKills) {
  const Words words = this->words();
  kill_after_step_6_is_saved("run", words);
  // Launch 2 goes back to launch 1's checkpoint, and is killed before it has one of its own.
  Process job(faulty({"nan_gradient,wait", 2, "optimizer", 8, ",7"}, "run", ranks, words));
  ASSERT_NE(fault_reached(), 0) << to_string(job.wait(Seconds(1)));
  job.kill_all();
  // So does launch 3, but for the kill.
  expect_ok(run(bad("run", words)));
  expect_records_agree("run", 4 * sequences);
  EXPECT_EQ(rollbacks("run").size(), 2u);
  EXPECT_EQ(entries("run", "rollback").size(), 1u) << "the last one to this checkpoint";
  std::vector<int> launches;
  for (const json& e : entries("run", "launch")) launches.push_back(e.at("launch"));
  EXPECT_EQ(launches, (std::vector<int>{1, 3}));
  kill_after_step_6_is_saved("other", words);
  kill_in({"nan_gradient,wait", 2, "optimizer", 8, ",7"}, "other", ranks, words);
  expect_ok(run(train("other", ranks, words)));
  expect_records_agree("other", 2 * sequences);
  EXPECT_EQ(entries("other", "rollback").size(), 1u) << "said again by the launch that went on after it";
}

TEST_F(RolledBack, NoMoreOftenThanTheRecipeAllows) {
  const Words words = this->words({"guard.max_rollbacks=1"});
  const Result result = run(bad("run", words, 8, ",11"));
  EXPECT_EQ(result.status, 5) << to_string(result);
  ASSERT_EQ(result.error_lines().size(), 1u);
  EXPECT_NE(result.error_lines()[0].find("the run was rolled back 1 time(s)"), std::string::npos);
  const Status status = status_of(run_directory("run"));
  EXPECT_EQ(status.exit_status, 5);
  EXPECT_EQ(status.place, "step 11");
  EXPECT_EQ(rollbacks("run").size(), 1u);
  EXPECT_EQ(saved_step("run"), 9);
  EXPECT_EQ(verified_trace(run_directory("run")).at("tokens"), 9 * step_tokens);
  expect_ok(run(train("run", ranks, words)));  // the fault is gone
  expect_records_agree("run", 2 * sequences);
}

// Killed anywhere in a rollback: before rollbacks.jsonl tells of it the run goes on as if there had been no bad step,
// from then on as the run that rolled back.
class KilledRollback : public RolledBack, public ::testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Short, KilledRollback, ::testing::Values(3));
INSTANTIATE_TEST_SUITE_P(Long, KilledRollback, ::testing::Values(25));

TEST_P(KilledRollback, IsMadeOrNotMade) {
  const Words words = this->words();
  expect_ok(run(train("clean", ranks, words)));
  expect_ok(run(bad("whole", words)));
  std::mt19937 random(6);
  int made = 0;
  for (int round = 0; round < GetParam(); ++round) {
    const std::string name = "killed-" + std::to_string(round);
    // Rank 0 waits as it enters the rollback.
    Process job(faulty({"nan_gradient,wait", 0, "optimizer,load", 8, ",7"}, name, ranks, words));
    ASSERT_NE(fault_reached(), 0) << to_string(job.wait(Seconds(1)));
    if (round > 0) {
      go_on();
      if (round % 2 == 0) {
        ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(run_directory(name) / "rollbacks.jsonl"); }));
      }
      std::this_thread::sleep_for(Seconds(0.06 * static_cast<double>(random()) / static_cast<double>(random.max())));
    }
    job.kill_all();
    std::filesystem::remove(folder() / "go_on");
    const bool rolled_back = !rollbacks(name).empty();
    EXPECT_TRUE(rolled_back || round % 2 == 1 || round == 0);
    expect_ok(run(train(name, ranks, words)));
    expect_same_run(run_directory(name), run_directory(rolled_back ? "whole" : "clean"));
    expect_records_agree(name, rolled_back ? 2 * sequences : 0);
    EXPECT_EQ(entries(name, "rollback").size(), rolled_back ? 1u : 0u);
    made += rolled_back;
    if (HasFailure()) return;
  }
  RecordProperty("made", made);
}

}  // namespace
}  // namespace fourmi::testing
