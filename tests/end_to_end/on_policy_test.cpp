// A student that writes texts of its own beside its teacher, as a user runs it: processes under MPI, kills in between.
#include <nlohmann/json.hpp>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

using OnPolicy = Scene;

const Words exact{"run.reproducibility=layout",  "precision.compute=bf16",     "model.num_attention_heads=4",
                  "model.num_key_value_heads=4", "model.intermediate_size=64", "model.moe_intermediate_size=64"};

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::vector<nlohmann::json> metrics_of(const std::filesystem::path& run) {
  std::vector<nlohmann::json> steps;
  std::ifstream lines(run / "metrics.jsonl");
  for (std::string line; std::getline(lines, line);) steps.push_back(nlohmann::json::parse(line));
  return steps;
}

TEST_F(OnPolicy, InALayoutIsThatOfOneRankOverAKill) {
  expect_ok(
      run(train("teacher", 0, with(exact, {"run.steps=3", "model.hidden_size=64", "model.num_hidden_layers=4"}))));
  const Words own =
      with(exact, {"run.steps=6", "checkpoint.every=2", "distill.mode=on-policy", "distill.objective=reverse-kl",
                   "distill.on_policy.rate=0.7", "distill.on_policy.prompt_tokens=8", "distill.weight=0.9",
                   "distill.teacher.from=" + run_directory("teacher").string()});
  const Words cut = with(own, {"parallel.pipeline=2", "distill.teacher.parallel.tensor=2"});
  expect_ok(run(train("whole", 0, own)));
  kill_in({"wait", 3, "backward", 5}, "cut", 4, cut);
  EXPECT_GE(saved_step("cut"), 2);
  expect_ok(run(train("cut", 4, cut)));
  expect_each_step_once(run_directory("cut"), 6);
  expect_same_run(run_directory("cut"), run_directory("whole"));

  const auto steps = metrics_of(run_directory("cut")), whole = metrics_of(run_directory("whole"));
  ASSERT_EQ(steps.size(), whole.size());
  std::int64_t written = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    EXPECT_EQ(steps[i].at("tokens_written"), whole[i].at("tokens_written"));
    EXPECT_EQ(steps[i].at("tokens"), whole[i].at("tokens"));
    EXPECT_GT(steps[i].at("loss_distill").get<double>(), 0);
    EXPECT_GT(steps[i].at("writing_seconds").get<double>(), 0);
    written += steps[i].at("tokens_written").get<std::int64_t>();
  }
  // 25 tokens of a sample are its own: 0.7 of 48 samples.
  EXPECT_GT(written, 25 * 22);
  EXPECT_LT(written, 25 * 45);
  expect_ok(run(fourmi({"ledger", "verify", run_directory("cut")})));
  const Result ledger = run(fourmi({"ledger", "show", run_directory("cut")}));
  EXPECT_NE(ledger.output.find("reverse-kl on texts of which the student writes a share of 0.7"), std::string::npos)
      << ledger.output;
  const Result dry = run(train("dry", 0, with(cut, {"--dry-run", "--json", "--ranks=4"})));
  expect_ok(dry);
  EXPECT_GT(nlohmann::json::parse(dry.output).at("memory_bytes_per_rank").at("writer").get<double>(), 0);
  // Another rate is another run.
  const Result other = run(train("cut", 4, with(cut, {"run.steps=7", "distill.on_policy.rate=0.2"})));
  EXPECT_EQ(other.status, 2) << other.errors;
  EXPECT_NE(other.errors.find("distill.on_policy.rate"), std::string::npos) << other.errors;
}

}  // namespace
}  // namespace fourmi::testing
