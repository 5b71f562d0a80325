// The shipped recipe's own model in fp64: along one random direction in every tensor the gradient is what a small step
// measures.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "framework/recipe/read.h"
#include "tests/model/small_model.h"

namespace fourmi {
namespace {

TEST(Gradient, OneDirectionPerTensorOfTiny) {
  const Recipe recipe = load_recipe(std::string(FOURMI_SOURCE_DIR) + "/recipes/tiny.yaml");
  const BatchSizes sizes{16, 16};
  const LossWeights weights{0.3, 0};
  SmallModel m(recipe.model, Compute::fp64, Reproducibility::run, sizes);
  SmallBatch batch(sizes, recipe.model.vocab_size);
  m.model.forward_backward(m.stream, batch.tensors(), weights, m.options);
  auto loss = [&] {
    const BatchLosses l = m.model.evaluate(m.stream, batch.tensors(), m.options);
    return total_loss<double>({l.loss_M, l.loss_mtp_M, {}}, weights);  // no balance loss is formed in this pass
  };
  for (const Parameter& p : m.table.all()) {
    if (p.set == ParameterSet::router_bias) continue;
    const Slot slot = m.store.slot(p.name);
    double* w = m.store.weight(slot).as<double>();
    const double* g = m.store.gradient(slot).as<double>();
    const auto n = static_cast<std::size_t>(p.shape.num_elements());
    std::vector<double> direction(n), keep(w, w + n);
    double slope = 0, norm = 0;
    for (std::size_t i = 0; i < n; ++i) {
      direction[i] = random_normal(random_key(9, "test", p.name), i);
      slope += g[i] * direction[i];
      norm += g[i] * g[i];
    }
    auto loss_at = [&](double h) {
      for (std::size_t i = 0; i < n; ++i) w[i] = keep[i] + h * direction[i];
      const double value = loss();
      std::copy(keep.begin(), keep.end(), w);
      return value;
    };
    const double h = 1e-6;
    const double numeric = (loss_at(h) - loss_at(-h)) / (2 * h);
    EXPECT_NEAR(numeric, slope, 1e-5 * (1 + std::sqrt(norm))) << p.name;
  }
}

}  // namespace
}  // namespace fourmi
