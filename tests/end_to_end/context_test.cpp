// The context axis as a user runs it: processes under MPI, checkpoints that move from one layout to another.
#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

constexpr int steps = 7, every = 2;

Words context(int ranks, Words more = {}) {
  Words words{"run.steps=" + std::to_string(steps),
              "checkpoint.every=" + std::to_string(every),
              "run.reproducibility=layout",
              "precision.compute=bf16",
              "data.validation={holdout: 0.1}",
              "evaluation={every: 4, sequences: 5}",
              "model.moe_intermediate_size=64",
              "model.intermediate_size=64",
              "parallel.context=" + std::to_string(ranks)};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

using Contexts = Scene;

TEST_F(Contexts, ARunMovesFromLayoutToLayoutAndKeepsItsBits) {
  expect_ok(run(train("whole", 0, context(1))));
  // A save is committed at the end of a step that finds its files written: a pause gives them a second.
  kill_in({"pause,wait", 1, "optimizer,forward", 3, ",5"}, "moved", 2, context(2));
  EXPECT_GE(saved_step("moved"), 2);
  expect_ok(run(train("moved", 4, context(2, {"parallel.tensor=2"}))));
  expect_each_step_once(run_directory("moved"), steps);
  expect_same_run(run_directory("moved"), run_directory("whole"));
  expect_ok(run(fourmi({"checkpoint", "verify", run_directory("moved")})));
}

TEST_F(Contexts, TheRingRepeatsItsBitsUnderMpi) {
  const Words ring{"parallel.context=2", "parallel.context_method=ring", "precision.compute=bf16"};
  expect_ok(run(train("once", 2, ring)));
  expect_ok(run(train("again", 2, ring)));
  expect_same_run(run_directory("again"), run_directory("once"));
  const Result refused = run(train("none", 2, {ring[0], ring[1], "run.reproducibility=layout"}));
  EXPECT_EQ(refused.status, 2) << to_string(refused);
  EXPECT_NE(refused.errors.find("parallel.context_method"), std::string::npos) << refused.errors;
}

}  // namespace
}  // namespace fourmi::testing
