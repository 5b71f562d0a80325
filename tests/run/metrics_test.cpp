#include "framework/run/metrics.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "kernels/runtime/error.h"
#include "tests/run/injected_io.h"
#include "tests/run/temp_folder.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;

StepMetrics metrics_of(std::int64_t step, std::int64_t launch) {
  StepMetrics m;
  m.step = step;
  m.tokens = step * 100;
  m.loss = 1.0 / static_cast<double>(step + launch);
  m.launch = launch;
  return m;
}

std::string line_of(std::int64_t step, std::int64_t launch) {
  return to_json_line(metrics_of(step, launch));
}

/// Steps [first, last] of a launch that goes on after first - 1.
void run_launch(const fs::path& run, std::int64_t first, std::int64_t last, std::int64_t launch) {
  MetricsLog log(run, first - 1, nullptr);
  for (std::int64_t step = first; step <= last; ++step) log.append(metrics_of(step, launch));
}

/// Every step 1..last once, in order; the launch of each.
std::vector<std::int64_t> launches_by_step(const fs::path& run) {
  std::vector<std::int64_t> launches;
  for (const std::string& line : lines_of(run / "metrics.jsonl")) {
    const auto json = nlohmann::json::parse(line);
    EXPECT_EQ(json["step"], static_cast<std::int64_t>(launches.size()) + 1);
    launches.push_back(json["launch"]);
  }
  return launches;
}

TEST(Metrics, KeysAndNumbersThatParseBackToTheSameDouble) {
  StepMetrics m = metrics_of(7, 2);
  m.loss = std::nextafter(2.3, 3.0);
  m.grad_norm = 1.0 / 3;
  m.learning_rate = 4.9406564584124654e-324;
  m.tokens_per_second = 1e300;
  m.mfu = 0.1;
  m.loss_mtp = 2.0;
  m.more = {{"clip \"x\"", 0.5}};
  const auto json = nlohmann::json::parse(to_json_line(m));
  for (const char* key : {"step", "tokens", "loss", "loss_bits", "grad_norm", "grad_norm_bits", "learning_rate",
                          "step_seconds", "tokens_per_second", "mfu", "speed_of_light", "expert_load_max_over_mean",
                          "launch", "loss_mtp", "clip \"x\""}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_FALSE(json.contains("loss_balance"));
  EXPECT_EQ(json["loss"].get<double>(), m.loss);
  EXPECT_EQ(json["grad_norm"].get<double>(), m.grad_norm);
  EXPECT_EQ(json["learning_rate"].get<double>(), m.learning_rate);
  EXPECT_EQ(json["tokens_per_second"].get<double>(), m.tokens_per_second);
  EXPECT_EQ(json["loss_bits"], fmt::format("{:016x}", std::bit_cast<std::uint64_t>(m.loss)));
  EXPECT_EQ(json["grad_norm_bits"], "3fd5555555555555");
  EXPECT_EQ(json["step"], 7);
}

TEST(Metrics, WhatIsNotFiniteIsNullAndItsBitsSayWhich) {
  StepMetrics m = metrics_of(1, 1);
  m.loss = std::numeric_limits<double>::quiet_NaN();
  m.grad_norm = std::numeric_limits<double>::infinity();
  m.loss_mtp = -std::numeric_limits<double>::infinity();
  const auto json = nlohmann::json::parse(to_json_line(m));
  EXPECT_TRUE(json["loss"].is_null());
  EXPECT_EQ(json["loss_bits"], "7ff8000000000000");
  EXPECT_TRUE(json["grad_norm"].is_null());
  EXPECT_EQ(json["grad_norm_bits"], "7ff0000000000000");
  EXPECT_TRUE(json["loss_mtp"].is_null());
}

TEST(Metrics, ResumesSupersedeWhatWasBeyond) {
  const TempFolder run;
  run_launch(run.path(), 1, 7, 1);
  run_launch(run.path(), 5, 9, 2);
  run_launch(run.path(), 9, 10, 3);
  EXPECT_EQ(launches_by_step(run.path()), (std::vector<std::int64_t>{1, 1, 1, 1, 2, 2, 2, 2, 3, 3}));
  EXPECT_EQ(lines_of(run.path() / "metrics.superseded.jsonl"),
            (std::vector<std::string>{line_of(5, 1), line_of(6, 1), line_of(7, 1), line_of(9, 2)}));
  // From the beginning again.
  run_launch(run.path(), 1, 2, 4);
  EXPECT_EQ(launches_by_step(run.path()), (std::vector<std::int64_t>{4, 4}));
  EXPECT_EQ(lines_of(run.path() / "metrics.superseded.jsonl").size(), 14u);
}

TEST(Metrics, TornAndDamagedLinesAreMovedAside) {
  for (const std::string& tail : {std::string(R"({"step":4,"tok)"), line_of(4, 1), std::string("{\"step\":4}"),
                                  std::string("\0\0\0\0", 4), std::string("garbage\n"), std::string("\n")}) {
    const TempFolder run;
    run_launch(run.path(), 1, 3, 1);
    { std::ofstream(run.path() / "metrics.jsonl", std::ios::app) << tail; }
    run_launch(run.path(), 4, 5, 2);
    EXPECT_EQ(launches_by_step(run.path()), (std::vector<std::int64_t>{1, 1, 1, 2, 2})) << tail;
    EXPECT_EQ(lines_of(run.path() / "metrics.superseded.jsonl").size(), 1u) << tail;
  }
}

TEST(Metrics, LinesThatAreThereTwiceOrNotInOrderAreMovedAside) {
  const TempFolder run;
  put_text(run.path() / "metrics.jsonl", line_of(1, 1) + "\n" + line_of(2, 1) + "\n" + line_of(2, 2) + "\n" +
                                             line_of(1, 2) + "\n" + line_of(3, 2) + "\n");
  run_launch(run.path(), 4, 4, 3);
  EXPECT_EQ(launches_by_step(run.path()), (std::vector<std::int64_t>{1, 1, 2, 3}));
}

TEST(Metrics, AMissingStepIsSaid) {
  const TempFolder run;
  put_text(run.path() / "metrics.jsonl", line_of(1, 1) + "\n" + line_of(3, 1) + "\n");
  std::string said;
  const MetricsLog log(run.path(), 5, [&](const std::string& text) { said += text; });
  EXPECT_EQ(log.opened().first_missing, 2);
  EXPECT_NE(said.find("step 2 has no line"), std::string::npos) << said;

  const TempFolder other;
  run_launch(other.path(), 1, 3, 1);
  EXPECT_EQ(MetricsLog(other.path(), 5, nullptr).opened().first_missing, 4);
  EXPECT_EQ(MetricsLog(other.path(), 3, nullptr).opened().first_missing, 0);
}

TEST(Metrics, AStepThatIsNotTheNextIsABug) {
  const TempFolder run;
  MetricsLog log(run.path(), 0, nullptr);
  EXPECT_THROW(log.append(metrics_of(2, 1)), Error);
  log.append(metrics_of(1, 1));
  EXPECT_THROW(log.append(metrics_of(1, 1)), Error);
}

// A launch that goes on at step 6 of 10 is killed at its Nth call, for every N until none is left, with half a line
// written by then; then another launch goes on at the same step. No line may be lost, none may be there twice.
TEST(Metrics, KilledAnywhereWhileSupersedingAndAppending) {
  int kills = 0;
  for (int n = 1;; ++n) {
    const TempFolder run;
    run_launch(run.path(), 1, 5, 1);
    run_launch(run.path(), 3, 10, 2);  // superseded: 3, 4, 5 of launch 1
    std::ofstream(run.path() / "metrics.jsonl", std::ios::app) << R"({"step":11,"torn)";
    const int status = injected::in_child([&] {
      injected::arm(injected::Fault::kill, n);
      run_launch(run.path(), 7, 8, 3);
    });
    ASSERT_TRUE(status == 0 || status == -SIGKILL) << status;
    run_launch(run.path(), 7, 9, 4);
    EXPECT_EQ(launches_by_step(run.path()), (std::vector<std::int64_t>{1, 1, 2, 2, 2, 2, 4, 4, 4})) << n;
    std::map<std::string, int> count;
    for (const auto& line : lines_of(run.path() / "metrics.superseded.jsonl")) ++count[line];
    for (std::int64_t step = 3; step <= 5; ++step) EXPECT_EQ(count[line_of(step, 1)], 1) << n;
    for (std::int64_t step = 7; step <= 10; ++step) EXPECT_EQ(count[line_of(step, 2)], 1) << n << " step " << step;
    EXPECT_EQ(count[R"({"step":11,"torn)"], 1) << n;
    if (status == 0) {
      EXPECT_EQ(count[line_of(7, 3)], 1);
      EXPECT_EQ(count[line_of(8, 3)], 1);
      break;
    }
    ++kills;
  }
  EXPECT_EQ(kills, 10);  // two files of write, fsync, rename, fsync of the folder; two lines
}

// The second launch is killed as well, at every call, after every kill of the first.
TEST(Metrics, KilledTwice) {
  for (int first = 1; first <= 10; ++first) {
    for (int second = 1; second <= 10; ++second) {
      const TempFolder run;
      run_launch(run.path(), 1, 10, 1);
      injected::in_child([&] {
        injected::arm(injected::Fault::kill, first);
        run_launch(run.path(), 7, 8, 2);
      });
      injected::in_child([&] {
        injected::arm(injected::Fault::kill, second);
        run_launch(run.path(), 4, 5, 3);
      });
      run_launch(run.path(), 3, 4, 4);
      EXPECT_EQ(launches_by_step(run.path()), (std::vector<std::int64_t>{1, 1, 4, 4})) << first << " " << second;
      std::map<std::string, int> count;
      for (const auto& line : lines_of(run.path() / "metrics.superseded.jsonl")) ++count[line];
      for (std::int64_t step = 3; step <= 10; ++step) EXPECT_EQ(count[line_of(step, 1)], 1) << first << " " << second;
    }
  }
}

TEST(Metrics, FullDiskKeepsTheLinesAndSaysSoOnce) {
  const TempFolder run;
  std::vector<std::string> said;
  MetricsLog log(run.path(), 0, [&](const std::string& text) { said.push_back(text); });
  log.append(metrics_of(1, 1));
  injected::arm(injected::Fault::disk_full, 1);
  for (std::int64_t step = 2; step <= 4; ++step) log.append(metrics_of(step, 1));
  EXPECT_FALSE(log.sync());
  ASSERT_EQ(said.size(), 1u);
  EXPECT_NE(said[0].find("No space left"), std::string::npos);
  injected::disarm();
  log.append(metrics_of(5, 1));
  EXPECT_EQ(launches_by_step(run.path()).size(), 5u);
  EXPECT_TRUE(log.sync());
  EXPECT_EQ(said.size(), 2u);
}

TEST(Metrics, FullDiskAtTheStartIsAnErrorThatLosesNothing) {
  const TempFolder run;
  run_launch(run.path(), 1, 5, 1);
  injected::arm(injected::Fault::disk_full, 1);
  EXPECT_THROW(MetricsLog(run.path(), 2, nullptr), Error);
  injected::disarm();
  EXPECT_EQ(launches_by_step(run.path()).size(), 5u);
}

TEST(Evaluations, MaySayAStepSeveralTimesAndAreSuperseded) {
  const TempFolder run;
  {
    EvaluationLog log(run.path(), 0, nullptr);
    for (const std::int64_t step : {0, 5, 5, 10}) {
      log.append({.step = step, .tokens = step * 2, .launch = 1, .source = "a \"b\"", .figures = {{"loss", 2.5}}});
    }
  }
  const EvaluationLog log(run.path(), 5, nullptr);
  const auto lines = lines_of(run.path() / "evaluations.jsonl");
  ASSERT_EQ(lines.size(), 3u);
  const auto json = nlohmann::json::parse(lines[2]);
  EXPECT_EQ(json["step"], 5);
  EXPECT_EQ(json["source"], "a \"b\"");
  EXPECT_EQ(json["loss"], 2.5);
  EXPECT_EQ(lines_of(run.path() / "evaluations.superseded.jsonl").size(), 1u);
}

TEST(Metrics, ABranchCopiesUpToItsStep) {
  const TempFolder from, to;
  run_launch(from.path(), 1, 8, 1);
  copy_steps(from.path(), to.path(), "metrics", 5);
  run_launch(to.path(), 6, 7, 1);
  EXPECT_EQ(launches_by_step(to.path()).size(), 7u);
  EXPECT_EQ(launches_by_step(from.path()).size(), 8u);
  EXPECT_FALSE(fs::exists(to.path() / "metrics.superseded.jsonl"));
}

}  // namespace
}  // namespace fourmi
