// Every family trains on real text as its twin in PyTorch does, from the same weights on the same batches
// (pytorch_twin.py wrote the twins' losses), and goes on from a checkpoint with the bits of the run that was not
// interrupted.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "framework/checkpoint/load.h"
#include "framework/checkpoint/save.h"
#include "tests/twins/run_twin.h"

namespace fourmi {
namespace {

class Twin : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, Twin,
                         testing::Values("qwen2", "qwen3", "qwen3_moe", "llama", "mixtral", "deepseek_v3"),
                         [](const auto& twin) { return std::string(twin.param); });

TEST_P(Twin, HasTheLossesOfPyTorchsTwinForAHundredSteps) {
  std::ifstream file(std::string(FOURMI_SOURCE_DIR) + "/tests/twins/goldens/" + GetParam() + ".json");
  const std::vector<double> expected = nlohmann::json::parse(file).at("losses");
  ASSERT_EQ(expected.size(), 100u);
  EXPECT_LT(expected.back(), expected.front() - 2) << "a twin that learned nothing proves nothing";
  TwinRun run(twin_recipe(GetParam()));
  double worst = 0;
  for (std::size_t s = 0; s < expected.size(); ++s) {
    const double loss = run.step().loss;
    worst = std::max(worst, std::abs(loss / expected[s] - 1));
    ASSERT_NEAR(loss, expected[s], 0.01 * expected[s]) << "step " << s + 1;
    if (s < 3) {  // before differences of rounding grow
      EXPECT_NEAR(loss, expected[s], 2e-5 * expected[s]) << "step " << s + 1;
    }
  }
  RecordProperty("worst_relative_difference", std::to_string(worst));
  std::cout << GetParam() << ": largest difference of a loss " << worst * 100 << "%\n";
}

TEST_P(Twin, GoesOnFromACheckpointToTheBit) {
  Recipe recipe = twin_recipe(GetParam());
  recipe.precision.compute = Compute::bf16;
  std::string folder = (std::filesystem::temp_directory_path() / "fourmi-twin-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  TwinRun whole(recipe), first(recipe), second(recipe);
  std::vector<StepResult> expected;
  for (int s = 0; s < 6; ++s) expected.push_back(whole.step());
  for (int s = 0; s < 3; ++s) first.step();
  second.step();  // something else to be overwritten
  CheckpointState state;
  state.step = 3, state.training = "{}";
  const std::vector<Box> saved = first.engine().boxes(), loaded = second.engine().boxes();
  const SaveOutcome outcome = save_checkpoint(first.group(), folder, saved, state);
  ASSERT_TRUE(outcome.committed()) << outcome.error->what();
  const Checkpoint checkpoint = prove_checkpoint(second.group(), outcome.path);
  load_boxes(second.group(), checkpoint, loaded);
  prove_live_state(second.group(), checkpoint, loaded);
  second.go_on_from(first);
  for (std::size_t s = 3; s < 6; ++s) {
    const StepResult got = second.step();
    EXPECT_EQ(std::bit_cast<std::uint64_t>(got.loss), std::bit_cast<std::uint64_t>(expected[s].loss))
        << "step " << s + 1;
    EXPECT_EQ(std::bit_cast<std::uint64_t>(got.grad_norm), std::bit_cast<std::uint64_t>(expected[s].grad_norm))
        << "step " << s + 1;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace fourmi
