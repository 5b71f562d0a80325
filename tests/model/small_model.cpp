#include "tests/model/small_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace fourmi {

void expect_gradients_of_finite_differences(SmallModel& m, SmallBatch& batch, const LossWeights& weights) {
  const auto loss_at = [&] {
    return total_loss<double>(m.model.forward_backward(m.stream, batch.tensors(), weights, m.options), weights);
  };
  loss_at();
  // Every later call adds to the store's gradients: keep what the first one gave.
  std::map<ParameterSet, std::vector<double>> analytic;
  for (ParameterSet set : {ParameterSet::matrices, ParameterSet::full_precision}) {
    const Tensor g = m.store.gradients(set);
    analytic[set].assign(g.as<double>(), g.as<double>() + g.num_elements());
  }
  for (const auto& [set, gradient] : analytic) {
    double* w = m.store.weights(set).as<double>();
    for (const Parameter* p : m.table.of(set)) {
      double error = 0, norm = 0;
      for (std::int64_t i = p->offset; i < p->offset + p->shape.num_elements(); ++i) {
        const double keep = w[i], h = 1e-5;
        w[i] = keep + h;
        const double up = loss_at();
        w[i] = keep - h;
        const double down = loss_at();
        w[i] = keep;
        const double numeric = (up - down) / (2 * h), exact = gradient[static_cast<std::size_t>(i)];
        error = std::max(error, std::abs(numeric - exact));
        norm += exact * exact;
      }
      EXPECT_LT(error, 2e-7 * (1 + std::sqrt(norm))) << p->name;
      EXPECT_GT(norm, 0) << p->name << " gets no gradient at all";
    }
  }
}

}  // namespace fourmi
