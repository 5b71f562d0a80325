// The tensor axis as a user runs it: processes under MPI, checkpoints that move from one layout to another.
#include <nlohmann/json.hpp>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

constexpr int steps = 12, every = 2;

Words tensor(int ranks, Words more = {}) {
  Words words{"run.steps=" + std::to_string(steps),
              "checkpoint.every=" + std::to_string(every),
              "run.reproducibility=layout",
              "precision.compute=bf16",
              "model.num_attention_heads=4",
              "model.num_key_value_heads=4",
              "model.intermediate_size=64",
              "model.moe_intermediate_size=64",
              "parallel.tensor=" + std::to_string(ranks)};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

using Tensors = Scene;

TEST_F(Tensors, ARunMovesFromLayoutToLayoutAndKeepsItsBits) {
  expect_ok(run(train("whole", 0, tensor(1))));
  kill_in({"wait", 1, "forward", 5}, "moved", 2, tensor(2));
  EXPECT_GE(saved_step("moved"), 2);
  kill_in({"wait", 3, "backward", 9}, "moved", 4, tensor(2, {"parallel.pipeline=2"}));
  EXPECT_GE(saved_step("moved"), 4);
  expect_ok(run(train("moved", 4, tensor(2))));
  expect_each_step_once(run_directory("moved"), steps);
  expect_same_run(run_directory("moved"), run_directory("whole"));
  expect_ok(run(fourmi({"checkpoint", "verify", run_directory("moved")})));
}

TEST_F(Tensors, AStepSendsWhatADryRunSaid) {
  const Words words = tensor(2, {"parallel.pipeline=2", "run.steps=2"});
  const Result dry = run(train("said", 0, tensor(2, {"parallel.pipeline=2", "--dry-run", "--json", "--ranks=4"})));
  expect_ok(dry);
  std::map<std::string, double> said;
  const nlohmann::json prediction = nlohmann::json::parse(dry.output);
  for (const auto& group : prediction.at("traffic_of_rank_0")) {
    std::string name = group.at("group");
    std::replace(name.begin(), name.end(), ' ', '_');
    for (const auto& call : group.at("calls")) {
      said["sent_bytes_" + name] += call.at("bytes").get<double>();
      said["sent_bytes"] += call.at("bytes").get<double>();
      said["group_calls"] += call.at("calls").get<double>();
    }
  }
  EXPECT_GE(said.size(), 5U);  // world, pipeline and tensor at least
  expect_ok(run(train("sent", 4, words)));
  std::ifstream lines(run_directory("sent") / "metrics.jsonl");
  std::string line;
  for (int step = 0; step < 2; ++step) {
    ASSERT_TRUE(std::getline(lines, line));
    std::map<std::string, double> sent;
    const nlohmann::json metrics = nlohmann::json::parse(line);
    for (const auto& [key, value] : metrics.items())
      if (key.starts_with("sent_bytes") || key == "group_calls") sent[key] = value;
    EXPECT_EQ(sent, said);
  }
}

}  // namespace
}  // namespace fourmi::testing
