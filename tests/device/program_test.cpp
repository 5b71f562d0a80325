// `fourmi train` with run.device: cuda, as a user starts it, on a card that is emulated on the CPU.
#include <fmt/format.h>

#include <cmath>

#include "tests/end_to_end/scene.h"

namespace fourmi::testing {
namespace {

class OnCard : public Scene {
 protected:
  Words train_on_card(const std::string& run, const Words& more) const {
    Words words = overrides(run, more);
    words.insert(words.begin(), {FOURMI_ON_EMULATED_CARD, "train", small_recipe});
    return words;
  }
};

double loss_of(const StepLine& line) {
  const std::uint64_t bits = std::stoull(line.loss_bits, nullptr, 16);
  return std::bit_cast<double>(bits);
}

TEST_F(OnCard, TrainsSavesAndGoesOnWhereAnotherDeviceStopped) {
  expect_ok(run(train("cpu", 0, {"run.steps=3", "checkpoint.every=2"})));
  const Result first =
      run(train_on_card("card", {"run.steps=2", "checkpoint.every=2", "run.device=cuda"}), {}, Seconds(200));
  expect_ok(first);
  expect_ok(run(fourmi({"checkpoint", "verify", run_directory("card")})));
  // From the card's checkpoint on the CPU, and back on the card, which `auto` finds.
  expect_ok(run(train("card", 0, {"run.steps=3", "checkpoint.every=1"})));
  expect_ok(run(train_on_card("card", {"run.steps=4", "checkpoint.every=1"}), {}, Seconds(200)));
  expect_each_step_once(run_directory("card"), 4);
  const auto cpu = step_lines(run_directory("cpu")), card = step_lines(run_directory("card"));
  for (std::size_t s = 0; s < 3; ++s) {
    EXPECT_NE(loss_of(cpu[s]), 0);
    EXPECT_NEAR(loss_of(card[s]), loss_of(cpu[s]), 1e-3 * loss_of(cpu[s])) << "step " << s + 1;
  }
  // What the card could do is not known: no datasheet has it.
  const std::string metrics = text_of(run_directory("card") / "metrics.jsonl");
  EXPECT_NE(metrics.substr(0, metrics.find('\n')).find("\"mfu\":0,\"speed_of_light\":0,"), std::string::npos)
      << metrics;
  const std::string record = text_of(run_directory("card") / "launches" / "1.yaml");
  EXPECT_NE(record.find("device: \"a card emulated on the CPU\""), std::string::npos) << record;
}

TEST_F(OnCard, ModeLayoutIsRefused) {
  const Result result = run(train_on_card("layout", {"run.device=cuda", "run.reproducibility=layout"}));
  EXPECT_EQ(result.status, 2) << to_string(result);
  ASSERT_EQ(result.error_lines().size(), 1u) << to_string(result);
  EXPECT_NE(result.errors.find("run.reproducibility: layout was found on GPUs"), std::string::npos);
}

TEST_F(OnCard, WithoutACardCudaEndsInThreeAndSaysWhy) {
  const Result result = run(train("none", 0, {"run.device=cuda"}));
  EXPECT_EQ(result.status, 3) << to_string(result);
  ASSERT_EQ(result.error_lines().size(), 1u) << to_string(result);
  EXPECT_NE(result.errors.find("no GPU for rank 0"), std::string::npos) << to_string(result);
  EXPECT_NE(result.errors.find("run.device: cpu"), std::string::npos) << to_string(result);
}

}  // namespace
}  // namespace fourmi::testing
