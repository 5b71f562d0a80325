// Weight decay acts where it belongs: on matrices, embeddings, head and router included; never on norms, biases and the
// router's correction bias.
#include <gtest/gtest.h>

#include <map>

#include "framework/train/engine.h"
#include "tests/train/small_recipe.h"

namespace fourmi {
namespace {

using Weights = std::map<std::string, std::vector<double>>;

Weights weights_of(const Engine& engine) {
  Weights weights;
  for (const Parameter& p : engine.table().all()) {
    const Tensor t = engine.store().weight(engine.store().slot(p.name));
    weights[p.name].assign(t.as<double>(), t.as<double>() + t.num_elements());
  }
  return weights;
}

/// Weights before and after one step.
std::pair<Weights, Weights> one_step(double decay, double& learning_rate) {
  Recipe recipe = small_recipe(Compute::fp64, Reproducibility::run);
  recipe.optimizer.weight_decay = decay;
  const auto groups = make_thread_groups("data", 1);
  ThreadPool pool(1);
  const Stream stream(pool);
  const Loader loader(recipe.data, load_sources(recipe.data.train, "data.train"), recipe.run.seed,
                      recipe.model.vocab_size);
  const RankGroups ranks(*groups[0]);
  Engine engine(recipe, ranks, stream);
  engine.initialise();
  const Weights before = weights_of(engine);
  learning_rate = engine.step(loader, loader.plan_step(loader.start()), 1, 0, [](Phase, std::int64_t) {}).learning_rate;
  return {before, weights_of(engine)};
}

TEST(WeightDecay, ActsOnMatricesAlone) {
  double rate = 0;
  const auto [before, without] = one_step(0, rate);
  const auto [same, with] = one_step(0.5, rate);
  ASSERT_GT(rate, 0);
  int decayed = 0, spared = 0;
  for (const auto& [name, first] : before) {
    const bool vector = name.ends_with("norm.weight") || name.ends_with("layernorm.weight") ||
                        name.ends_with(".bias") || name.ends_with("e_score_correction_bias");
    (vector ? spared : decayed) += 1;
    for (std::size_t i = 0; i < first.size(); ++i)
      ASSERT_NEAR(with.at(name)[i] - without.at(name)[i], vector ? 0 : -rate * 0.5 * first[i], 1e-15)
          << name << " " << i;
  }
  EXPECT_GT(decayed, 20);
  EXPECT_GT(spared, 10);
}

}  // namespace
}  // namespace fourmi
