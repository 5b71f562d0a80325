// Mixtures of axes, and the two models that tests train with them.
#pragma once

#include <algorithm>
#include <string>

#include "tests/layouts/layouts.h"
#include "tests/train/blocks.h"

namespace fourmi {

/// Ranks along the axes; what they leave of `ranks` is data.
struct Mixture {
  int ranks = 8, tensor = 1, context = 1, pipeline = 1, expert = 1, expert_tensor = 1;
  std::string schedule = "1f1b";
  bool ring = false;
  int node_size = 0;  // hierarchical
  double bound = 0;
  int zero = 1;
  Recompute recompute = Recompute::none;
  bool device = false;  // the dispatcher

  int data() const { return ranks / (tensor * context * pipeline); }
  int expert_data() const { return ranks / (pipeline * expert * expert_tensor); }
  Recipe of(Recipe r) const {
    ParallelSection& p = r.parallel;
    p.tensor = tensor, p.context = context, p.pipeline = pipeline, p.expert = expert, p.expert_tensor = expert_tensor;
    p.pipeline_schedule = schedule, p.virtual_stages = schedule == "interleaved" ? 2 : 1, p.zero = zero;
    if (ring) p.context_method = ContextMethod::ring;
    if (node_size > 0) p.dispatch_node_size = node_size;
    if (bound > 0) p.dispatch_bound = bound;
    if (device) p.dispatcher = "device";
    r.memory.recompute = recompute;
    return r;
  }
};

/// Fit for a test's name.
inline std::string name_of(const Mixture& m) {
  std::string name = std::to_string(m.ranks) + "_ranks";
  const auto add = [&](const char* axis, int size) {
    if (size > 1) name += fmt::format("_{}{}", axis, size);
  };
  add("tensor", m.tensor), add("context", m.context), add("pipeline", m.pipeline);
  if (m.pipeline > 1) {
    std::string schedule = m.schedule;
    std::replace(schedule.begin(), schedule.end(), '-', '_');
    name += "_" + schedule;
  }
  if (m.ring) name += "_ring";
  add("expert", m.expert), add("expert_tensor", m.expert_tensor), add("node", m.node_size);
  if (m.device) name += "_device";
  if (m.bound > 0) name += "_bound";
  add("zero", m.zero);
  if (m.recompute != Recompute::none) name += m.recompute == Recompute::full ? "_full" : "_selective";
  return name;
}

/// Latent attention, shared experts, groups of experts, MTP, a dense first layer: about a quarter of a million
/// parameters.
inline Recipe sparse(Compute compute, Reproducibility mode) {
  Recipe r = small_recipe(compute, mode);
  ModelSection& m = r.model;
  m.num_hidden_layers = 4;
  m.intermediate_size = 128, m.moe_intermediate_size = 64, m.n_shared_experts = 1;
  return r;
}
/// Grouped queries, tied embeddings.
inline Recipe dense(Compute compute, Reproducibility mode) {
  Recipe r = deep_dense_recipe(compute, mode);
  r.model.intermediate_size = 64, r.model.num_attention_heads = 4, r.model.num_key_value_heads = 4;
  return r;
}

/// The same models in blocks of 128, as wide as a mixture's axes need.
inline Recipe sparse_in_blocks(Compute compute, Reproducibility mode, const Mixture& m) {
  return in_blocks(sparse(compute, mode), m.tensor, m.expert_tensor);
}
inline Recipe dense_in_blocks(Compute compute, Reproducibility mode, const Mixture& m) {
  return in_blocks(dense(compute, mode), m.tensor);
}

}  // namespace fourmi
