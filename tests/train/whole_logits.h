// Logits of whole batches in fp64, as a model of its own gives them that a seed has initialised.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "framework/data/loader.h"
#include "framework/train/batch_tensors.h"
#include "framework/train/teacher/teacher_weights.h"
#include "kernels/ops/reduce.h"

namespace fourmi {

/// A model of its own that gives the logits of all rows of a batch, without their padding.
inline std::vector<std::vector<double>> logits_of(const Recipe& r, std::uint64_t seed, const Batch& batch) {
  ThreadPool pool(1);
  const Stream stream(pool);
  const ParameterTable table(r.model);
  Arena weights({"weights"}, 1 << 24), activations({"activations"}, 1 << 24);
  const ParameterStore store(table, model_types(Compute::fp64, Reproducibility::run), weights, nullptr);
  Model model(r.model, store, r.data.sequence_length, weights);
  initialise_weights(store, seed, r.model.initializer_range, stream);
  model.allocate({batch.num_sequences * r.data.sequence_length, r.data.sequence_length}, Model::Use::evaluation,
                 activations);
  std::vector<std::vector<double>> rows;
  const Objective keep = [&](const Context& c, const HeadChunk& k) {
    for (std::int64_t i = 0; i < k.logits_CV.dim(0); ++i) {
      const auto* row = k.logits_CV.as<double>() + i * k.logits_CV.dim(1);
      rows.emplace_back(row, row + r.model.vocab_size);
    }
    fill_zero(*c.stream, k.loss_C);
  };
  Context context;
  context.attention_block = r.data.sequence_length;
  context.objective = &keep;
  BatchRows on_host(batch);
  model.evaluate(stream, on_host.tensors(), context);
  return rows;
}

inline std::vector<double> log_softmax(std::vector<double> z, double temperature) {
  const double most = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (double& x : z) x = (x - most) / temperature, sum += std::exp(x);
  for (double& x : z) x -= std::log(sum);
  return z;
}

}  // namespace fourmi
