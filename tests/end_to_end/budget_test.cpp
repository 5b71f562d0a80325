// budget, checkpoint.every and keep, checkpoint.on_failure, model.from: what the program promises of them.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

double device_hours(const fs::path& run) {
  return json::parse(text_of(run / "status.json"))["device_hours"].get<double>();
}

json last_line(const fs::path& file) {
  const std::string text = text_of(file);
  return json::parse(text.substr(text.rfind('\n', text.size() - 2) + 1));
}

class Budget : public Scene, public ::testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Budget, ::testing::Values(0, 4));

TEST_P(Budget, SpentIsACheckpointAndExitEightAndStaysSo) {
  const int ranks = GetParam(), devices = std::max(ranks, 1);
  // Two seconds of each rank, in money: more steps than can be made in that time.
  const std::string cost = fmt::format("{:.6f}", 2.0 * devices / 3600 * 50);
  const Words words{"run.steps=1000000", "budget.cost=" + cost, "budget.price_per_gpu_hour=50", "budget.currency=EUR",
                    "logging.every=1"};
  const Result spent = run(train("run", ranks, words), {}, Seconds(120));
  EXPECT_EQ(spent.status, 8) << to_string(spent);
  EXPECT_NE(spent.errors.find("budget.cost"), std::string::npos);
  EXPECT_NE(spent.errors.find("spent "), std::string::npos);
  const auto lines = step_lines(run_directory("run"));
  ASSERT_FALSE(lines.empty());
  EXPECT_EQ(saved_step("run"), lines.back().step);
  const Status status = status_of(run_directory("run"));
  EXPECT_EQ(status.state, "stopped");
  EXPECT_EQ(status.exit_status, 8);
  EXPECT_NE(status.cause.find("budget.cost"), std::string::npos);
  const double used = device_hours(run_directory("run"));
  EXPECT_GE(used, 2.0 * devices / 3600);
  const json metrics = last_line(run_directory("run") / "metrics.jsonl");
  EXPECT_NEAR(metrics["cost"].get<double>(), 50 * metrics["device_hours"].get<double>(), 1e-12);

  // Again: nothing is trained, nothing is lost.
  const Result again = run(train("run", ranks, words));
  EXPECT_EQ(again.status, 8) << to_string(again);
  EXPECT_NE(again.errors.find("nothing is left of the budget"), std::string::npos);
  EXPECT_EQ(step_lines(run_directory("run")).size(), lines.size());
  EXPECT_GE(device_hours(run_directory("run")), used);

  // A larger budget lets the same run go on; without a budget it ends as any other.
  expect_ok(run(train("run", ranks, {fmt::format("run.steps={}", lines.back().step + 2), "budget.gpu_hours=1e6"})));
}

using Spending = Scene;

TEST_F(Spending, GoesOnOverKills) {
  const Words words{"run.steps=8", "checkpoint.every=2"};
  kill_in({"wait", 0, "forward", 5}, "run", 4, words);
  const double metrics = last_line(run_directory("run") / "metrics.jsonl")["device_hours"].get<double>();
  EXPECT_GT(metrics, 0);
  expect_ok(run(train("run", 4, words)));
  std::ifstream in(run_directory("run") / "metrics.jsonl");
  double before = 0;
  for (std::string line; std::getline(in, line);) {
    const json j = json::parse(line);
    EXPECT_GT(j["device_hours"].get<double>(), before);
    before = j["device_hours"].get<double>();
    // What the killed launch used up beyond the checkpoint counts as well.
    if (j["launch"] == 2) {
      EXPECT_GT(before, metrics);
    }
  }
  EXPECT_GE(device_hours(run_directory("run")), before);
}

TEST_F(Spending, DryRunSaysTheCostAndValidateThatAPriceIsNeeded) {
  const Result dry = run(fourmi(
      {"train", small_recipe, "--dry-run", "--json", "--ranks", "4", "budget.price_per_gpu_hour=2", "run.steps=1e6"}));
  expect_ok(dry);
  const json j = json::parse(dry.output);
  EXPECT_NEAR(j["device_hours"].get<double>(), 4 * j["least_seconds"].get<double>() / 3600, 1e-9);
  EXPECT_NEAR(j["cost"].get<double>(), 2 * j["device_hours"].get<double>(), 1e-9);
  // GPUs are elsewhere: two of them have half of the work each.
  double least[2];
  for (int i = 0; i < 2; ++i) {
    const Result gpus = run(fourmi({"train", small_recipe, "--dry-run", "--json", "--ranks", i == 0 ? "2" : "4",
                                    "run.device=cuda", "run.steps=1e6"}));
    expect_ok(gpus);
    least[i] = json::parse(gpus.output)["least_seconds"].get<double>();
    EXPECT_NE(gpus.output.find("H100"), std::string::npos);
  }
  EXPECT_NEAR(least[0], 2 * least[1], 1e-9 * least[0]);
  const Result invalid = run(fourmi({"validate", small_recipe, "budget.cost=5"}));
  EXPECT_EQ(invalid.status, 2);
  EXPECT_NE(invalid.errors.find("budget.price_per_gpu_hour"), std::string::npos);
}

using Saves = Scene;

TEST_F(Saves, MilestonesStayAndDurationsCount) {
  expect_ok(run(train(
      "run", 0, {"run.steps=10", "checkpoint.every=2", "checkpoint.keep.last=1", "checkpoint.keep.every_steps=4"})));
  EXPECT_EQ(checkpoint_names(run_directory("run")), (Words{"step-00000004", "step-00000008", "step-00000010"}));
  // A save a second, until the run stops after four.
  const Result timed =
      run(train("timed", 2, {"run.steps=1000000", "run.time=4s", "checkpoint.every=1s", "checkpoint.keep.last=50"}), {},
          Seconds(120));
  EXPECT_EQ(timed.status, 6) << to_string(timed);
  const std::size_t saved = checkpoint_names(run_directory("timed")).size(),
                    steps = step_lines(run_directory("timed")).size();
  if (steps >= 10) {  // else the machine stood still
    EXPECT_GE(saved, 3u);
    EXPECT_LT(saved, steps / 2);
  }
}

TEST_F(Saves, AFailedSaveStopsOrNotAsTheRecipeSays) {
  // A file where the folder of checkpoints should be.
  for (const std::string on_failure : {"stop", "continue"}) {
    SCOPED_TRACE(on_failure);
    fs::create_directories(run_directory(on_failure));
    std::ofstream(run_directory(on_failure) / "checkpoints") << "in the way";
    const Result result =
        run(train(on_failure, 2, {"run.steps=12", "checkpoint.every=2", "checkpoint.on_failure=" + on_failure}));
    EXPECT_EQ(result.status, 3) << to_string(result);  // the last one must be kept
    ASSERT_EQ(result.error_lines().size(), 1u);
    const std::size_t steps = step_lines(run_directory(on_failure)).size();
    if (on_failure == "stop") {
      EXPECT_GE(steps, 2u);
      EXPECT_LT(steps, 12u);
    } else {
      EXPECT_EQ(steps, 12u);
      EXPECT_NE(result.errors.find("training goes on"), std::string::npos);
    }
    EXPECT_EQ(status_of(run_directory(on_failure)).exit_status, 3);
  }
}

using ModelFrom = Scene;

TEST_F(ModelFrom, TakesTheWeightsAndNothingElseOnAnyNumberOfRanks) {
  expect_ok(run(train("parent", 2, {"run.steps=6"})));
  // With a learning rate that changes nothing a saved step has the weights of the parent, and fresh moments.
  const Words still{"model.from=" + newest_checkpoint(run_directory("parent")).string(),
                    "run.steps=1",
                    "optimizer.learning_rate=1e-30",
                    "optimizer.weight_decay=0",
                    "loss.router_bias_rate=0",
                    "schedule.warmup_steps=0"};
  for (const int ranks : {0, 4}) {
    const std::string name = fmt::format("child{}", ranks);
    expect_ok(run(train(name, ranks, still)));
    const Result diff = run(fourmi({"checkpoint", "diff", run_directory("parent"), run_directory(name)}));
    EXPECT_EQ(diff.status, 4) << to_string(diff);
    EXPECT_EQ(diff.output.find("/optimizer/master/"), std::string::npos) << diff.output;
    EXPECT_EQ(diff.output.find("e_score_correction_bias"), std::string::npos) << diff.output;
    EXPECT_NE(diff.output.find("/optimizer/exp_avg/"), std::string::npos) << diff.output;
    expect_each_step_once(run_directory(name), 1);
  }
}

TEST_F(ModelFrom, AllThatDiffersIsNamedAtOnce) {
  expect_ok(run(train("parent", 0, {"run.steps=1"})));
  const std::string from = "model.from=" + run_directory("parent").string();
  for (const int ranks : {0, 4}) {
    const Result other =
        run(train("child", ranks,
                  {from, "model.hidden_size=64", "model.num_experts_per_tok=1", "model.num_nextn_predict_layers=0"}));
    EXPECT_EQ(other.status, 4) << to_string(other);
    ASSERT_EQ(other.error_lines().size(), 1u);
    for (const char* named : {"model.hidden_size: 32 -> 64", "model.num_experts_per_tok: 2 -> 1",
                              "model.num_nextn_predict_layers: 1 -> 0", "model.embed_tokens.weight"})
      EXPECT_NE(other.error_lines()[0].find(named), std::string::npos) << named << "\n" << other.error_lines()[0];
  }
  const Result absent = run(train("child", 4, {"model.from=" + (folder() / "nowhere").string()}));
  EXPECT_EQ(absent.status, 4) << to_string(absent);
  EXPECT_NE(absent.error_lines().at(0).find("nowhere"), std::string::npos);
  const Result both = run(train("child", 0, {from, "checkpoint.resume=" + run_directory("parent").string()}));
  EXPECT_EQ(both.status, 2) << to_string(both);
  expect_ok(
      run(train("child", 0, {from, "run.steps=1", "model.rope_theta=50000"})));  // a later phase changes it on purpose
}

}  // namespace
}  // namespace fourmi::testing
