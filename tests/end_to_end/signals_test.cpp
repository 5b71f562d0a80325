// "Save and stop", asked for by signals; and how a run's directory is shared between launches.
#include <string.h>

#include <thread>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

using Signals = Scene;

const Words endless{"run.steps=1000000", "checkpoint.every=1000"};

/// Lets some steps pass, asks, and looks at what is left; returns the step it stopped at.
std::int64_t stop_and_look(Process& job, const std::filesystem::path& run, int signal, std::int64_t from) {
  EXPECT_TRUE(wait_until([&] { return lines_of(run / "metrics.jsonl").size() >= static_cast<std::size_t>(from + 3); }));
  job.signal(signal);
  const Result result = job.wait(Seconds(20));
  SCOPED_TRACE(to_string(result));
  EXPECT_EQ(result.status, 6);
  EXPECT_EQ(result.error_lines().size(), 0u);
  EXPECT_NE(result.errors.find("the same command goes on"), std::string::npos);
  const Status status = status_of(run);
  EXPECT_EQ(status.state, "stopped");
  EXPECT_EQ(status.exit_status, 6);
  EXPECT_EQ(std::filesystem::path(status.checkpoint), newest_checkpoint(run));
  EXPECT_GE(status.step, from + 3);
  expect_each_step_once(run, status.step);
  return status.step;
}

void stop_three_times(const Words& command, const std::filesystem::path& run, std::initializer_list<int> signals) {
  std::int64_t step = 0, launch = 0;
  for (const int signal : signals) {
    SCOPED_TRACE(strsignal(signal));
    Process job(command);
    const std::int64_t stopped = stop_and_look(job, run, signal, step);
    EXPECT_EQ(status_of(run).launches, ++launch);
    for (const StepLine& line : step_lines(run)) EXPECT_EQ(line.launch == launch, line.step > step) << line.step;
    step = stopped;
  }
  EXPECT_FALSE(std::filesystem::exists(run / "metrics.superseded.jsonl")) << "a stop loses no step";
  expect_ok(testing::run(fourmi({"checkpoint", "verify", run})));
}

TEST_F(Signals, SaveAndStopAndTheSameCommandGoesOn) {
  stop_three_times(train("alone", 0, endless), run_directory("alone"), {SIGUSR1, SIGTERM, SIGINT});
}

TEST_F(Signals, TheLauncherPassesThemOn) {
  stop_three_times(train("ranks", 4, endless), run_directory("ranks"), {SIGUSR1, SIGTERM, SIGINT});
}

// The step that was begun is done, saved, and equal to that of a run that nobody stopped.
TEST_F(Signals, AStopInMidStepKeepsTheBits) {
  const Words words{"run.steps=9", "precision.compute=bf16"};
  expect_ok(run(train("whole", 4, words)));
  Process job(faulty({"wait", 2, "backward", 5}, "stopped", 4, words));
  ASSERT_NE(fault_reached(), 0);
  job.signal(SIGUSR1);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // by mpirun to the ranks
  go_on();
  EXPECT_EQ(job.wait().status, 6);
  EXPECT_EQ(status_of(run_directory("stopped")).step, 5);
  expect_ok(run(train("stopped", 4, words)));
  expect_same_run(run_directory("stopped"), run_directory("whole"));
}

TEST_F(Signals, ASecondSignalEndsAtOnce) {
  Process job(faulty({"wait", 0, "forward", 3}, "twice", 0, endless));
  ASSERT_NE(fault_reached(), 0);
  job.signal(SIGTERM);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_TRUE(job.runs()) << "the first only asks";
  job.signal(SIGTERM);
  EXPECT_EQ(job.wait(Seconds(2)).status, -SIGTERM);
}

using Directory = Scene;

TEST_F(Directory, IsOneRunsUntilItsOwnerIsDead) {
  for (const int ranks : {0, 4}) {
    const std::string name = "run" + std::to_string(ranks);
    const Words words{"run.steps=4"};
    Process owner(faulty({"wait", 0, "forward", 3}, name, ranks, words));
    const pid_t first_rank = fault_reached();
    ASSERT_NE(first_rank, 0);

    const Result second = run(train(name, ranks, words));
    SCOPED_TRACE(to_string(second));
    EXPECT_EQ(second.status, 3);
    EXPECT_LT(second.seconds, 5);
    ASSERT_EQ(second.error_lines().size(), 1u);
    EXPECT_NE(second.error_lines()[0].find("in use by process "), std::string::npos);
    EXPECT_NE(second.error_lines()[0].find(" process " + std::to_string(first_rank) + " on host "), std::string::npos);
    EXPECT_EQ(status_of(run_directory(name)).state, "running") << "the owner's status is not the second's to write";

    owner.kill_all();
    expect_ok(run(train(name, ranks, words)));
    expect_each_step_once(run_directory(name), 4);
  }
}

TEST_F(Directory, OfAFinishedRunSaysSo) {
  const Words command = train("done", 0, {"run.steps=2"});
  expect_ok(run(command));
  const std::string metrics = text_of(run_directory("done") / "metrics.jsonl");
  for (const int ranks : {0, 4}) {
    const Result again = run(train("done", ranks, {"run.steps=2"}));
    expect_ok(again);
    EXPECT_NE(again.errors.find("finished at step 2, nothing is left to do"), std::string::npos) << to_string(again);
    EXPECT_EQ(text_of(run_directory("done") / "metrics.jsonl"), metrics);
    EXPECT_EQ(status_of(run_directory("done")).state, "done");
  }
  expect_ok(run(train("done", 0, {"run.steps=3"})));  // a free key: the target moved
  expect_each_step_once(run_directory("done"), 3);
}

}  // namespace
}  // namespace fourmi::testing
