// "Resume to the bit": a run that is killed and goes on is the run that was never killed.
#include <fmt/format.h>

#include <fstream>
#include <random>

#include "tests/end_to_end/blocks.h"
#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

// A checkpoint every other step: when the second save after a step begins, that of the step is committed.
constexpr int steps = 12, every = 2;

struct Case {
  int ranks;  ///< 0: without a launcher
  const char* compute;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.ranks << " ranks, " << c.compute; }
};

Words resumable(const char* compute, const char* mode = "run") {
  Words words{"run.steps=" + std::to_string(steps), "checkpoint.every=" + std::to_string(every),
              std::string("precision.compute=") + compute, std::string("run.reproducibility=") + mode};
  if (std::string(compute).find("fp8") != std::string::npos)
    words.insert(words.end(), in_blocks.begin(), in_blocks.end());
  return words;
}

class Resume : public Scene, public ::testing::WithParamInterface<Case> {};
class ResumeEverywhere : public Resume {};
INSTANTIATE_TEST_SUITE_P(Ranks, Resume,
                         ::testing::Values(Case{0, "fp32"}, Case{0, "bf16"}, Case{0, "fp8-block"}, Case{4, "fp32"},
                                           Case{4, "bf16"}, Case{4, "fp8-block"}));
INSTANTIATE_TEST_SUITE_P(Long, Resume, ::testing::Values(Case{4, "fp8-tensor"}, Case{4, "mxfp8"}));
INSTANTIATE_TEST_SUITE_P(Long, ResumeEverywhere,
                         ::testing::Values(Case{0, "fp32"}, Case{0, "bf16"}, Case{4, "fp32"}, Case{4, "bf16"}));

TEST_P(Resume, KilledInMidStepAndResumedIsTheSameRun) {
  const auto [ranks, compute] = GetParam();
  const Words words = resumable(compute);
  expect_ok(run(train("whole", ranks, words)));
  expect_each_step_once(run_directory("whole"), steps);

  const int last = std::max(ranks, 1) - 1;
  kill_in({"wait", last, "backward", 7}, "killed", ranks, words);
  EXPECT_EQ(step_lines(run_directory("killed")).size(), 6u);
  const int saved = saved_step("killed");  // that of step 6 may have been on its way
  EXPECT_TRUE(saved == 4 || saved == 6) << saved;
  const Result resumed = run(train("killed", ranks, words));
  expect_ok(resumed);
  EXPECT_NE(resumed.errors.find("on from step " + std::to_string(saved)), std::string::npos) << to_string(resumed);

  expect_each_step_once(run_directory("killed"), steps);
  expect_same_run(run_directory("killed"), run_directory("whole"));
  // What the killed launch did beyond is kept beside; it was right as well.
  const auto whole = step_lines(run_directory("whole")),
             superseded = step_lines(run_directory("killed"), "metrics.superseded");
  ASSERT_EQ(superseded.size(), static_cast<std::size_t>(6 - saved));
  for (const StepLine& line : superseded) {
    EXPECT_EQ(line.launch, 1);
    EXPECT_TRUE(same_bits(line, whole[static_cast<std::size_t>(line.step - 1)])) << line.step;
  }
  for (const StepLine& line : step_lines(run_directory("killed"))) EXPECT_EQ(line.launch, line.step <= saved ? 1 : 2);
  expect_ok(run(fourmi({"checkpoint", "verify", run_directory("killed")})));
}

// One directory, killed in every phase, by chance too.
TEST_P(ResumeEverywhere, KilledInEveryPhaseAndResumedIsTheSameRun) {
  const auto [ranks, compute] = GetParam();
  const Words words = resumable(compute);
  expect_ok(run(train("whole", ranks, words)));
  const int last = std::max(ranks, 1) - 1;
  const Fault faults[] = {{"wait", 0, "start", 0},         {"wait", 0, "load", 0},    {"wait", last, "load", 0},
                          {"wait", 0, "forward", 3},       {"wait", last, "save", 4}, {"wait", last, "backward", 6},
                          {"wait", 0, "optimizer", 7},     {"wait", 0, "save", 8},    {"wait", last, "forward", 9},
                          {"wait", last, "optimizer", 11}, {"wait", 0, "save", 12}};
  std::mt19937 random(static_cast<unsigned>(ranks) + 7);
  int launch = 0;
  for (const Fault& fault : faults) {
    SCOPED_TRACE(fault.phase + std::to_string(fault.step));
    kill_in(fault, "killed", ranks, words);
    ++launch;
    // And at any moment, of a program that does not wait.
    Process job(train("killed", ranks, words));
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 1500));
    job.kill_all();
  }
  expect_ok(run(train("killed", ranks, words)));
  expect_each_step_once(run_directory("killed"), steps);
  expect_same_run(run_directory("killed"), run_directory("whole"));
  for (const StepLine& line : step_lines(run_directory("killed"), "metrics.superseded"))
    EXPECT_TRUE(same_bits(line, step_lines(run_directory("whole"))[static_cast<std::size_t>(line.step - 1)]))
        << line.step;
}

using ResumeOnOthers = Scene;

TEST_F(ResumeOnOthers, ModeLayoutGivesEqualBitsOnFourTwoAndOneRanks) {
  const Words words = resumable("bf16", "layout");
  expect_ok(run(train("whole", 0, words)));
  kill_in({"wait", 3, "forward", 6}, "moved", 4, words);
  EXPECT_GE(saved_step("moved"), 2);
  kill_in({"wait", 1, "backward", 10}, "moved", 2, words);
  EXPECT_GE(saved_step("moved"), 6);
  expect_ok(run(train("moved", 0, words)));
  expect_each_step_once(run_directory("moved"), steps);
  expect_same_run(run_directory("moved"), run_directory("whole"));
}

// Layers that the guard has promoted to bf16 stay so in the next launch, and in a rank's every layout.
class Promoted : public Scene {};
TEST_F(Promoted, LayersStayInBf16) {
  Words words{"run.steps=8",
              "checkpoint.every=4",
              "precision.compute=fp8-block",
              "run.reproducibility=layout",
              "guard.precision.every=3",
              "guard.precision.operand_error=0.0275"};
  words.insert(words.end(), in_blocks.begin(), in_blocks.end());
  expect_ok(run(train("whole", 0, words)));
  Words first = words;
  first[0] = "run.steps=5";
  expect_ok(run(train("moved", 0, first)));
  expect_ok(run(train("moved", 2, words)));
  expect_same_run(run_directory("moved"), run_directory("whole"));
  const auto promoted = [](const std::string& line) {
    const auto at = line.find("\"layers_in_bf16\":");
    return at == std::string::npos ? 0 : std::stoi(line.substr(at + 17));
  };
  std::ifstream moved(run_directory("moved") / "metrics.jsonl"), whole(run_directory("whole") / "metrics.jsonl");
  for (std::string a, b; std::getline(moved, a) && std::getline(whole, b);) {
    EXPECT_EQ(promoted(a), promoted(b));
    EXPECT_GT(promoted(a), 0);
    EXPECT_LT(promoted(a), 4);
  }
}

// Checkpoints hold masters: the precision of products may be another in every launch, where the change is accepted.
class Precisions : public Scene {};
TEST_F(Precisions, MayChangeBetweenLaunches) {
  int last = 0;
  for (const char* compute : {"fp8-block", "fp8-tensor", "mxfp8", "bf16"}) {
    last += 2;
    Words words{fmt::format("run.steps={}", last), fmt::format("precision.compute={}", compute)};
    words.insert(words.end(), in_blocks.begin(), in_blocks.end());
    if (last > 2) {
      const Result refused = run(train("run", 0, words));
      EXPECT_NE(refused.errors.find("precision.compute"), std::string::npos) << to_string(refused);
      EXPECT_NE(refused.errors.find("--accept-changes"), std::string::npos) << to_string(refused);
      words.push_back("--accept-changes");
    }
    expect_ok(run(train("run", last == 6 ? 4 : 0, words)));
    expect_each_step_once(run_directory("run"), last);
  }
  for (const StepLine& line : step_lines(run_directory("run"))) EXPECT_EQ(line.launch, (line.step + 1) / 2);
}

}  // namespace
}  // namespace fourmi::testing
