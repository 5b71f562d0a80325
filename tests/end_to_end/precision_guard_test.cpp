// The guard of eight bits through the program: a fault in one layer's quantisers, what people are told of it, and what
// of it stays in the run.
#include "tests/end_to_end/blocks.h"
#include "tests/end_to_end/two_sources.h"

namespace fourmi::testing {
namespace {

using nlohmann::json;

/// Faults of eight_bit_faults.h are put into this layer (spoil.h).
constexpr const char* spoiled_map = "model.layers.1.self_attn.o_proj";
constexpr const char* promoted_at_5 = R"([{"step": 5, "layer": 1}])";

/// A fault begins after a step and stays as long as its launch; comparisons are before steps 1, 5 and 9.
class EightBits : public Scene {
 protected:
  Words words(int steps, const Words& more = {}) const {
    return joined(in_blocks, joined({"run.steps=" + std::to_string(steps), "precision.compute=fp8-block",
                                     "guard.precision.every=4", "data.global_batch_size=4"},
                                    more));
  }
  std::vector<json> lines(const std::string& run_name, const std::string& file) const {
    std::vector<json> all;
    for (const std::string& line : lines_of(run_directory(run_name) / file)) all.push_back(json::parse(line));
    return all;
  }
  /// layers_in_bf16 of every step.
  std::vector<int> layers_in_bf16(const std::string& run_name) const {
    std::vector<int> layers;
    for (const json& step : lines(run_name, "metrics.jsonl")) layers.push_back(step.value("layers_in_bf16", 0));
    return layers;
  }
  json promoted(const std::string& run_name) const {
    return saved_training(run_directory(run_name)).at("guard").at("promoted");
  }
  std::vector<json> told_in_ledger(const std::string& run_name) const {
    std::vector<json> found;
    for (const json& e : ledger_entries(run_directory(run_name)))
      if (e.at("type") == "promotion") found.push_back(e.at("payload"));
    return found;
  }
  /// The error of what o_proj read as `role` in each comparison at `step`; -1 where it is in bf16.
  std::vector<double> errors(const std::string& run_name, int step, const char* role) const {
    std::vector<double> found;
    for (const json& line : lines(run_name, "precision.jsonl")) {
      if (line.at("step") != step) continue;
      const json& maps = line.at("maps");
      found.push_back(maps.contains(spoiled_map) ? maps[spoiled_map][role].at("error").get<double>() : -1);
    }
    return found;
  }
};

/// On one of two ranks: both promote, one tells of it.
TEST_F(EightBits, AFaultPromotesItsLayerForGood) {
  const Result result = run(faulty({"gradients'_scales_underflow", 1, "optimizer", 2}, "run", 2, words(6)));
  expect_ok(result);
  const auto warnings = result.lines("fourmi: warning: ");
  ASSERT_EQ(warnings.size(), 1u) << to_string(result);
  EXPECT_NE(warnings[0].find(std::string("step 5: the gradient of ") + spoiled_map), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[0].find("layer(s) 1 work in bf16 from here on"), std::string::npos) << warnings[0];
  EXPECT_EQ(layers_in_bf16("run"), (std::vector<int>{0, 0, 0, 0, 1, 1}));
  // What was found, and what is left of it.
  const auto found = errors("run", 5, "gradient");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_GT(found[0], 0.5);
  EXPECT_EQ(found[1], -1);
  const json step = lines("run", "metrics.jsonl").at(4);
  EXPECT_EQ(step.at("precision_operand_error"), found[0]);
  EXPECT_EQ(promoted("run"), json::parse(promoted_at_5));
  EXPECT_EQ(told_in_ledger("run"), json::parse(promoted_at_5));

  // Without the fault it stays so.
  expect_ok(run(train("run", 0, words(9))));
  EXPECT_EQ(layers_in_bf16("run"), (std::vector<int>{0, 0, 0, 0, 1, 1, 1, 1, 1}));
  EXPECT_EQ(errors("run", 9, "gradient"), std::vector<double>{-1});
  EXPECT_EQ(promoted("run"), json::parse(promoted_at_5));
  EXPECT_EQ(told_in_ledger("run"), json::parse(promoted_at_5)) << "once";
  verified_trace(run_directory("run"));

  const Result shown = run(fourmi({"checkpoint", "show", run_directory("run")}));
  EXPECT_NE(shown.output.find("\nlayers in bf16 1 (by step 5)\n"), std::string::npos) << to_string(shown);
}

TEST_F(EightBits, WhereTheRecipeSaysWarnItOnlyWarns) {
  const Result result = run(
      faulty({"gradients'_scales_underflow", 0, "optimizer", 2}, "run", 0, words(6, {"guard.precision.action=warn"})));
  expect_ok(result);
  const auto warnings = result.lines("fourmi: warning: ");
  ASSERT_EQ(warnings.size(), 1u) << to_string(result);
  EXPECT_NE(warnings[0].find(std::string("step 5: the gradient of ") + spoiled_map), std::string::npos) << warnings[0];
  EXPECT_EQ(warnings[0].find("in bf16"), std::string::npos) << warnings[0];
  EXPECT_EQ(layers_in_bf16("run"), std::vector<int>(6));
  EXPECT_EQ(errors("run", 5, "gradient").size(), 1u);
  EXPECT_EQ(promoted("run"), json::array());
  EXPECT_TRUE(told_in_ledger("run").empty());
  const Result shown = run(fourmi({"checkpoint", "show", run_directory("run")}));
  EXPECT_EQ(shown.output.find("layers in bf16"), std::string::npos) << to_string(shown);
}

/// Between comparisons, and guard.non_finite stops at such a step: it is made again, with the same data.
TEST_F(EightBits, AStepThatTheyMakeNotFiniteIsMadeAgain) {
  const Result result = run(faulty({"a_NaN", 0, "optimizer", 2}, "run", 0, words(5, {"guard.non_finite=stop"})));
  expect_ok(result);
  EXPECT_EQ(layers_in_bf16("run"), (std::vector<int>{0, 0, 1, 1, 1}));
  EXPECT_EQ(promoted("run"), json::parse(R"([{"step": 3, "layer": 1}])"));
  const auto steps = lines("run", "metrics.jsonl");
  ASSERT_EQ(steps.size(), 5u);
  for (const json& step : steps) {
    EXPECT_FALSE(step.contains("skipped")) << step;
    EXPECT_EQ(step.at("tokens"), 4 * 32 * step.at("step").get<int>()) << step;
    EXPECT_TRUE(step.at("loss").is_number() && step.at("grad_norm").is_number()) << step;
  }
  EXPECT_TRUE(lines("run", "rollbacks.jsonl").empty());
  EXPECT_TRUE(lines("run", "metrics.superseded.jsonl").empty());
}

/// Promoted at step 5; step 6 leads back to the checkpoint of step 3, which knows nothing of it. Step 4 is made again
/// before there is another comparison; a launch that is killed there leaves it to the next.
TEST_F(EightBits, PromotedLayersSurviveARollback) {
  const Words words = this->words(7, {"checkpoint.every=3", "guard.non_finite=rollback"});
  const auto bad = [&](const char* hows, const char* later, const std::string& name) {
    return faulty({hows, 0, "optimizer", 3, later}, name, 0, words);
  };
  const Result result = run(bad("gradients'_scales_underflow,nan_gradient", ",6", "whole"));
  expect_ok(result);
  ASSERT_EQ(result.lines("fourmi: warning: ").size(), 2u) << to_string(result);
  EXPECT_NE(result.errors.find("back to step 3"), std::string::npos) << to_string(result);
  EXPECT_EQ(layers_in_bf16("whole"), (std::vector<int>{0, 0, 0, 1, 1, 1, 1}));

  Process job(bad("gradients'_scales_underflow,nan_gradient,wait", ",6,4", "killed"));
  ASSERT_NE(fault_reached(), 0) << to_string(job.wait(Seconds(1)));
  job.kill_all();
  expect_ok(run(train("killed", 0, words)));
  expect_same_run(run_directory("killed"), run_directory("whole"));
  EXPECT_EQ(layers_in_bf16("killed"), layers_in_bf16("whole"));
  for (const char* name : {"whole", "killed"}) {
    EXPECT_EQ(promoted(name), json::parse(promoted_at_5)) << name;
    EXPECT_EQ(told_in_ledger(name), json::parse(promoted_at_5)) << name;
    verified_trace(run_directory(name));
  }
}

}  // namespace
}  // namespace fourmi::testing
