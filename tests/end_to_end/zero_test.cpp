// ZeRO levels as a user runs them: processes under MPI, checkpoints that move from one level to another.
#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

constexpr int steps = 8, every = 2;

Words zero(int level) {
  return {"run.steps=" + std::to_string(steps),
          "checkpoint.every=" + std::to_string(every),
          "run.reproducibility=layout",
          "precision.compute=bf16",
          "evaluation.every=4",
          "data.validation={holdout: 0.1}",
          "parallel.zero=" + std::to_string(level)};
}

using ZeroLevels = Scene;

TEST_F(ZeroLevels, ARunMovesFromLevelToLevelAndKeepsItsBits) {
  expect_ok(run(train("whole", 0, zero(1))));
  kill_in({"wait", 1, "forward", 5}, "moved", 2, zero(3));
  EXPECT_GE(saved_step("moved"), 2);
  kill_in({"wait", 3, "backward", 7}, "moved", 4, zero(2));
  EXPECT_GE(saved_step("moved"), 4);
  expect_ok(run(train("moved", 2, zero(3))));
  expect_each_step_once(run_directory("moved"), steps);
  expect_same_run(run_directory("moved"), run_directory("whole"));
  expect_ok(run(fourmi({"checkpoint", "verify", run_directory("moved")})));
}

}  // namespace
}  // namespace fourmi::testing
