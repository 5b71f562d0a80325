// What is not finite on one stage is told by all ranks alike, by the whole model's names.
#include <gtest/gtest.h>

#include <limits>

#include "tests/pipeline/pipeline_recipe.h"
#include "tests/train/told.h"

namespace fourmi {
namespace {

TEST(NonFiniteInAPipeline, ABadWeightOfOneStage) {
  const Recipe recipe = with_pipeline(deep_recipe(Compute::fp32, Reproducibility::run), "1f1b", 2);
  const std::string name = "model.layers.7.self_attn.o_proj.weight";
  const auto words = told(recipe, 2, [&](Engine& engine, int rank) {
    if (rank == 1)
      engine.store().weight(engine.store().slot(name)).as<float>()[33] = std::numeric_limits<float>::quiet_NaN();
  });
  ASSERT_EQ(words.size(), 1u);
  EXPECT_NE(words.begin()->find("the weight of " + name + " is NaN at [1, 1] on rank 1"), std::string::npos)
      << *words.begin();
}

TEST(NonFiniteInAPipeline, ABadActivationIsThatOfTheFirstLayerThatHasIt) {
  for (std::string_view schedule : {"1f1b", "zb-v"}) {
    const Recipe recipe = with_pipeline(deep_recipe(Compute::fp32, Reproducibility::layout), schedule, 2);
    const auto words = told(recipe, 2, [](Engine& engine, int) {
      engine.set_activation_probe([](std::int64_t layer, const Tensor& output) {
        if (layer == 2) output.as<float>()[5] = std::numeric_limits<float>::infinity();
      });
    });
    ASSERT_EQ(words.size(), 1u);
    EXPECT_NE(words.begin()->find("the output of model.layers.2 is inf at element 5 on rank"), std::string::npos)
        << *words.begin();
    EXPECT_NE(words.begin()->find("micro-batch 0"), std::string::npos) << *words.begin();
  }
}

}  // namespace
}  // namespace fourmi
