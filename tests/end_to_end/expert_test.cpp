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

/// Segments of windows that have a name; another run on this host may have one for a moment.
bool no_window_is_left() {
  return wait_until([] {
    for (const auto& entry : std::filesystem::directory_iterator("/dev/shm"))
      if (entry.path().filename().string().starts_with("fourmi-window-")) return false;
    return true;
  });
}

// Ranks that are processes of one host write into one another's memory.
TEST_F(Experts, TheDeviceDispatcherHasTheBitsOfTheAllToAll) {
  const Words four{"run.steps=4", "parallel.expert=4", "parallel.dispatch_bound=1.5"};
  expect_ok(run(train("plain", 4, layout(four))));
  Words words = four;
  words.push_back("parallel.dispatcher=device");
  expect_ok(run(train("device", 4, layout(words))));
  expect_each_step_once(run_directory("device"), 4);
  expect_same_run(run_directory("device"), run_directory("plain"));
  EXPECT_TRUE(no_window_is_left());
}

TEST_F(Experts, ARankThatIsKilledWhileOthersWaitForItsRowsIsNamed) {
  const Words words = layout({"run.steps=1000000", "parallel.expert=4", "parallel.dispatcher=device"});
  Process job(faulty({"kill", 1, "forward", 3}, "killed", 4, words));
  ASSERT_NE(fault_reached(), 0) << to_string(job.wait(Seconds(0)));
  const Result result = job.wait(Seconds(15));
  EXPECT_TRUE(wait_until([&] { return job.processes("faulty_fourmi").empty(); }, Seconds(5))) << "a rank is left";
  EXPECT_EQ(result.status, 7) << to_string(result);
  const Status status = status_of(run_directory("killed"));
  EXPECT_EQ(status.exit_status, 7);
  EXPECT_EQ(status.rank, 1);
  EXPECT_NE(status.cause.find("ended without a word"), std::string::npos) << status.cause;
  EXPECT_TRUE(no_window_is_left());
}

TEST_F(Experts, ADryRunSaysWhereTheDeviceDispatcherWorks) {
  Words words = train("device", 0, layout({"parallel.expert=2", "parallel.dispatcher=device"}));
  words.insert(words.end(), {"--dry-run", "--ranks", "2"});
  const Result planned = run(words);
  expect_ok(planned);
  EXPECT_NE(planned.errors.find("parallel.dispatcher: device is for ranks of one host"), std::string::npos)
      << to_string(planned);
}

}  // namespace
}  // namespace fourmi::testing
