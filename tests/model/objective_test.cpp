// Another objective than cross-entropy through the head's chunks: the distance to a teacher's distribution.
#include "framework/model/objective.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/ops/cross_entropy.h"
#include "tests/model/small_model.h"

namespace fourmi {
namespace {

/// What the teacher gives to each token, of a row; multi-token prediction's head learns from text.
struct Teacher {
  std::int64_t vocabulary;
  std::vector<double> probabilities(std::int64_t row) const {
    const RandomKey key = random_key(11, "test", "teacher");
    std::vector<double> q(static_cast<std::size_t>(vocabulary));
    double sum = 0;
    for (std::size_t v = 0; v < q.size(); ++v)
      sum += q[v] = 1 + static_cast<double>(random_bits(key, static_cast<std::uint64_t>(row) * q.size() + v) % 1000);
    for (double& p : q) p /= sum;
    return q;
  }
  /// loss = sum of q (log q - log p).
  void operator()(const Context& c, const HeadChunk& h) const {
    if (h.multi_token)
      return cross_entropy_finish(*c.stream, h.weight, h.logits_CV, h.max_C, h.sum_C, h.target_logit_C, h.targets_C,
                                  h.first_token, h.loss_C, h.dlogits_CV);
    const std::int64_t V = h.logits_CV.dim(1);
    for (std::int64_t r = 0; r < h.logits_CV.dim(0); ++r) {
      const bool counts = h.targets_C.as<std::int32_t>()[r] >= 0;
      const std::vector<double> q = probabilities(h.first_row + r);
      double loss = 0;
      for (std::int64_t v = 0; v < V; ++v) {
        const double teacher = q[static_cast<std::size_t>(h.first_token + v)];
        const double log_p =
            h.logits_CV.as<double>()[r * V + v] - h.max_C.as<double>()[r] - std::log(h.sum_C.as<double>()[r]);
        loss += teacher * (std::log(teacher) - log_p);
        if (h.dlogits_CV) h.dlogits_CV.as<double>()[r * V + v] = counts ? h.weight * (std::exp(log_p) - teacher) : 0;
      }
      h.loss_C.as<double>()[r] = counts ? loss : 0;
    }
  }
};

TEST(Objective, GradientsOfADistanceToATeacherAreThoseOfFiniteDifferences) {
  const ModelSection section = small_section();
  const BatchSizes sizes{16, 8};
  SmallModel m(section, Compute::fp64, Reproducibility::run, sizes);
  SmallBatch batch(sizes, section.vocab_size);
  const Objective teacher = Teacher{section.vocab_size};
  m.options.objective = &teacher;
  expect_gradients_of_finite_differences(m, batch, {0.3, 0.05});
}

/// What is passed to it is enough for cross-entropy itself, to the bit.
TEST(Objective, CrossEntropyThroughItIsCrossEntropy) {
  const ModelSection section = small_section();
  const BatchSizes sizes{16, 8};
  const auto run = [&](const Objective* objective) {
    SmallModel m(section, Compute::fp32, Reproducibility::run, sizes);
    SmallBatch batch(sizes, section.vocab_size);
    m.options.objective = objective;
    const double loss =
        total_loss<float>(m.model.forward_backward(m.stream, batch.tensors(), {0.3, 0.05}, m.options), {0.3, 0.05});
    const Tensor g = m.store.gradients(ParameterSet::matrices);
    return std::pair(loss, std::vector<float>(g.as<float>(), g.as<float>() + g.num_elements()));
  };
  int chunks = 0;
  const Objective same = [&](const Context& c, const HeadChunk& h) {
    ++chunks;
    cross_entropy_finish(*c.stream, h.weight, h.logits_CV, h.max_C, h.sum_C, h.target_logit_C, h.targets_C,
                         h.first_token, h.loss_C, h.dlogits_CV);
  };
  EXPECT_TRUE(run(nullptr) == run(&same));
  EXPECT_EQ(chunks, 2);  // head, multi-token prediction
}

}  // namespace
}  // namespace fourmi
