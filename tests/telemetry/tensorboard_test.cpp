#include "framework/telemetry/tensorboard.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "framework/run/metrics.h"
#include "tests/run/temp_folder.h"
#include "tests/telemetry/event_records.h"

namespace fourmi {
namespace {

const Warn silent = [](const std::string& text) { ADD_FAILURE() << text; };

std::string line(std::int64_t step, double loss, std::int64_t launch = 1) {
  StepMetrics m;
  m.step = step;
  m.loss = loss;
  m.grad_norm = 1.5;
  m.mfu = 0.25;
  m.expert_load_max_over_mean = 1.75;
  m.more = {{"time_attention", 0.125}};
  m.launch = launch;
  return to_json_line(m);
}

std::map<std::int64_t, float> curve(std::initializer_list<std::pair<const std::int64_t, float>> points) {
  return points;
}

TEST(TensorBoard, FiguresOfALineGoUnderTheirTags) {
  const TempFolder run;
  TensorBoard board(run.path(), 0, 1, silent);
  board.add_line(line(1, 2.5));
  board.add_line(line(2, 2.25), {}, TensorBoard::Figures::train);
  Evaluation held_out{.step = 2, .tokens = 9, .launch = 1, .source = "", .figures = {{"loss", 3.0}}};
  board.add_line(to_json_line(held_out), "evaluation/");
  held_out.source = "books";
  board.add_line(to_json_line(held_out), "evaluation/");
  const auto curves = testing::drawn(run.path() / "tensorboard");
  EXPECT_EQ(curves.at("train/loss"), curve({{1, 2.5f}, {2, 2.25f}}));
  EXPECT_EQ(curves.at("speed/mfu"), curve({{1, 0.25f}}));
  EXPECT_EQ(curves.at("experts/load_max_over_mean"), curve({{1, 1.75f}}));
  EXPECT_EQ(curves.at("time/attention"), curve({{1, 0.125f}}));
  EXPECT_EQ(curves.at("evaluation/loss"), curve({{2, 3.0f}}));
  EXPECT_EQ(curves.at("evaluation/books/loss"), curve({{2, 3.0f}}));
  for (const auto& [tag, points] : curves) {
    EXPECT_EQ(tag.find("launch"), std::string::npos);
    EXPECT_EQ(tag.find("bits"), std::string::npos);
  }
}

TEST(TensorBoard, StepsThatAreDoneAgainAreThereOnceWithTheNewValue) {
  const TempFolder run;
  {
    TensorBoard board(run.path(), 0, 1, silent);
    for (int step = 1; step <= 5; ++step) board.add_line(line(step, step));
  }
  {
    TensorBoard board(run.path(), 3, 2, silent);  // within the same second: its file must still come second
    board.add_line(line(4, 40, 2));
  }
  EXPECT_EQ(testing::drawn(run.path() / "tensorboard").at("train/loss"), curve({{1, 1}, {2, 2}, {3, 3}, {4, 40}}));
}

TEST(TensorBoard, ARunWithStepsButNoEventsTakesThemFromItsLogs) {
  const TempFolder run;
  {
    MetricsLog metrics(run.path(), 0, silent);
    for (int step = 1; step <= 4; ++step) {
      StepMetrics m;
      m.step = step;
      m.loss = 10 + step;
      metrics.append(m);
    }
    EvaluationLog evaluations(run.path(), 0, silent);
    evaluations.append({.step = 2, .tokens = 9, .launch = 1, .source = "", .figures = {{"loss", 3.0}}});
  }
  TensorBoard board(run.path(), 3, 2, silent);
  const auto curves = testing::drawn(run.path() / "tensorboard");
  EXPECT_EQ(curves.at("train/loss"), curve({{1, 11}, {2, 12}, {3, 13}}));
  EXPECT_EQ(curves.at("evaluation/loss"), curve({{2, 3.0f}}));
}

TEST(TensorBoard, AFolderThatCannotBeMadeIsSaidOnceAndEndsNothing) {
  const TempFolder run;
  std::ofstream(run.path() / "tensorboard") << "a file";
  int said = 0;
  TensorBoard board(run.path(), 0, 1, [&](const std::string&) { ++said; });
  board.add_line(line(1, 1));
  board.add_line(line(2, 1));
  EXPECT_EQ(said, 1);
}

}  // namespace
}  // namespace fourmi
