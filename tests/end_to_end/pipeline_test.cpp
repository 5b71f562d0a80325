// Pipelines as a user runs them: processes under MPI, checkpoints that move from one layout to another, lost ranks.
#include <algorithm>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

// A checkpoint every other step: when the second save after a step begins, that of the step is committed.
constexpr int steps = 16, every = 2;

Words stages(const std::string& schedule, int ranks, Words more = {}) {
  Words words{"run.steps=" + std::to_string(steps),
              "checkpoint.every=" + std::to_string(every),
              "run.reproducibility=layout",
              "precision.compute=bf16",
              "model.num_hidden_layers=8",
              "parallel.pipeline_schedule=" + schedule,
              "parallel.pipeline=" + std::to_string(ranks)};
  if (schedule == "interleaved") words.push_back("parallel.virtual_stages=2");
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

using Pipelines = Scene;

TEST_F(Pipelines, ARunMovesFromLayoutToLayoutAndKeepsItsBits) {
  expect_ok(run(train("whole", 0, stages("1f1b", 1))));
  kill_in({"wait", 1, "forward", 6}, "moved", 2, stages("1f1b", 2));
  EXPECT_GE(saved_step("moved"), 2);
  kill_in({"wait", 3, "backward", 10}, "moved", 4, stages("zb-v", 2));
  EXPECT_GE(saved_step("moved"), 6);
  kill_in({"wait", 0, "backward", 14}, "moved", 0, stages("gpipe", 1));
  expect_ok(run(train("moved", 4, stages("interleaved", 4))));
  expect_each_step_once(run_directory("moved"), steps);
  expect_same_run(run_directory("moved"), run_directory("whole"));
  expect_ok(run(fourmi({"checkpoint", "verify", run_directory("moved")})));
}

TEST_F(Pipelines, HeldOutLossIsThatOfOneRank) {
  const Words words{"data.validation={holdout: 0.1}", "evaluation.every=2", "evaluation.sequences=6"};
  const auto small_text = [&](const std::string& name, int ranks, Words more) {
    std::ofstream(folder() / "text.txt") << std::string(1 << 20, 'a') + "bcd";
    more.push_back("data.train=[{name: t, path: " + (folder() / "text.txt").string() +
                   ", weight: 1, license: CC0-1.0}]");
    more.push_back("data.repeat=1000");
    expect_ok(run(train(name, ranks, more)));
    std::string text = text_of(run_directory(name) / "evaluations.jsonl");
    return text;
  };
  const std::string one = small_text("one", 0, stages("1f1b", 1, words));
  EXPECT_NE(one, "");
  EXPECT_EQ(small_text("straight", 2, stages("1f1b", 2, words)), one);
  EXPECT_EQ(small_text("v", 4, stages("dualpipev", 2, words)), one);
}

TEST_F(Pipelines, ALostRankEndsTheJob) {
  for (const char* phase : {"forward", "backward", "optimizer"}) {
    Process job(faulty({"kill", 1, phase, 3}, phase, 4, stages("zb-h1", 4, {"run.steps=1000000"})));
    ASSERT_NE(fault_reached(), 0) << to_string(job.wait(Seconds(0)));
    const auto begin = std::chrono::steady_clock::now();
    const Result result = job.wait(Seconds(15));
    EXPECT_LT(Seconds(std::chrono::steady_clock::now() - begin).count(), 5.0) << phase;
    EXPECT_EQ(result.status, 7) << to_string(result);
    EXPECT_EQ(status_of(run_directory(phase)).rank, 1);
  }
}

TEST_F(Pipelines, WhatCannotBeIsRefused) {
  const auto refused = [&](int ranks, const Words& words, const std::string& word) {
    const Result result = run(train("none", ranks, words));
    EXPECT_EQ(result.status, 2) << to_string(result);
    EXPECT_NE(result.errors.find(word), std::string::npos) << to_string(result);
  };
  refused(2, stages("dualpipe", 2), "dualpipev");
  refused(2, stages("dualpipev", 2, {"data.global_batch_size=3"}), "at least 4");
  refused(4, stages("interleaved", 4, {"data.global_batch_size=6"}), "a multiple of the ranks, 8 for example");
  refused(4, stages("zb-v", 4, {"model.num_hidden_layers=7"}), "8 stages");
  refused(2, stages("1f1b", 2, {"parallel.virtual_stages=2"}), "parallel.virtual_stages = 2");
  refused(2, stages("1f1b", 2, {"parallel.stage_layers=[5, 2]"}), "sum to the 8 layers");
  refused(2, stages("one-f", 2), "zb-h1");
  EXPECT_FALSE(std::filesystem::exists(run_directory("none")));
}

TEST_F(Pipelines, DryRunDrawsThem) {
  for (const char* schedule : {"gpipe", "1f1b", "interleaved", "zb-h1", "zb-v", "dualpipe", "dualpipev"}) {
    Words words = overrides("none", stages(schedule, 4));
    words.insert(words.begin(), {"train", small_recipe, "--dry-run", "--timeline", (folder() / "t.svg").string()});
    const Result result = run(fourmi(words));
    EXPECT_EQ(result.status, 0) << to_string(result);
    EXPECT_NE(result.output.find("embedding, layers 0 to "), std::string::npos) << to_string(result);
    EXPECT_NE(result.output.find("of the time idle"), std::string::npos);
    EXPECT_NE(result.output.find("\nrank 3 "), std::string::npos);
    EXPECT_EQ(text_of(folder() / "t.svg").substr(0, 4), "<svg");
  }
}

}  // namespace
}  // namespace fourmi::testing
