// The expert axis as a user runs it: processes under MPI, checkpoints that move from one layout to another.
#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

constexpr int steps = 14, every = 2;

Words layout(Words parallel) {
  Words words{"run.steps=" + std::to_string(steps), "checkpoint.every=" + std::to_string(every),
              "run.reproducibility=layout",         "precision.compute=bf16",
              "model.num_attention_heads=4",        "model.num_key_value_heads=4",
              "model.intermediate_size=64",         "model.moe_intermediate_size=64"};
  words.insert(words.end(), parallel.begin(), parallel.end());
  return words;
}

using Experts = Scene;

TEST_F(Experts, ARunMovesFromLayoutToLayoutAndKeepsItsBits) {
  expect_ok(run(train("whole", 0, layout({}))));
  kill_in({"wait", 1, "forward", 5}, "moved", 2, layout({"parallel.expert=2"}));
  EXPECT_GE(saved_step("moved"), 2);
  kill_in({"wait", 3, "backward", 9}, "moved", 4, layout({"parallel.expert=4", "parallel.dispatch_bound=1.5"}));
  EXPECT_GE(saved_step("moved"), 4);
  kill_in({"wait", 0, "forward", 12}, "moved", 2, layout({"parallel.tensor=2", "parallel.expert_tensor=2"}));
  EXPECT_GE(saved_step("moved"), 8);
  expect_ok(run(train("moved", 0, layout({}))));
  expect_each_step_once(run_directory("moved"), steps);
  expect_same_run(run_directory("moved"), run_directory("whole"));
  expect_ok(run(fourmi({"checkpoint", "verify", run_directory("moved")})));
}

// Ranks that are processes have no memory that the others can write to.
TEST_F(Experts, TheDeviceDispatcherIsRefusedBeforeAnythingIsTrained) {
  const Result refused = run(train("device", 2, layout({"parallel.expert=2", "parallel.dispatcher=device"})));
  EXPECT_EQ(refused.status, 2) << to_string(refused);
  ASSERT_EQ(refused.error_lines().size(), 1u) << to_string(refused);
  EXPECT_EQ(refused.error_lines()[0],
            "fourmi: error: parallel.dispatcher: found device for ranks that are processes, expected ranks that are "
            "threads of one process, on the CPU. Choose all-to-all or hierarchical, which give the same bits");
  EXPECT_EQ(status_of(run_directory("device")).exit_status, 2);
  EXPECT_EQ(status_of(run_directory("device")).step, 0);
  Words words = train("device", 0, layout({"parallel.expert=2", "parallel.dispatcher=device"}));
  words.insert(words.end(), {"--dry-run", "--ranks", "2"});
  const Result planned = run(words);
  expect_ok(planned);
  EXPECT_NE(planned.errors.find("parallel.dispatcher: device is for ranks that are threads"), std::string::npos)
      << to_string(planned);
}

}  // namespace
}  // namespace fourmi::testing
