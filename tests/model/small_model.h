// A DeepSeek-V3 in 5,000 parameters and one micro-batch for it: enough for every mechanism, small enough for finite
// differences.
#pragma once

#include <memory>
#include <vector>

#include "framework/model/model.h"
#include "kernels/numerics/random.h"
#include "kernels/ops/reduce.h"

namespace fourmi {

inline ModelSection small_section(bool query_latent = true) {
  ModelSection m;
  m.model_type = query_latent ? "deepseek_v3" : "deepseek_v2";
  m.vocab_size = 24, m.hidden_size = 16, m.num_hidden_layers = 2, m.num_nextn_predict_layers = query_latent ? 1 : 0;
  m.first_k_dense_replace = 1, m.intermediate_size = 12, m.moe_intermediate_size = 6;
  m.n_routed_experts = 4, m.n_shared_experts = 1, m.num_experts_per_tok = 2, m.n_group = 2, m.topk_group = 1;
  m.num_attention_heads = 2, m.num_key_value_heads = 2;
  m.q_lora_rank = query_latent ? 6 : 0, m.kv_lora_rank = 5, m.qk_nope_head_dim = 4, m.qk_rope_head_dim = 2,
  m.v_head_dim = 3;
  m.max_position_embeddings = 64, m.initializer_range = 0.3, m.routed_scaling_factor = 1.5;
  if (!query_latent) m.scoring_func = "softmax", m.topk_method = "greedy", m.norm_topk_prob = false, m.n_group = 1;
  return m;
}

/// The whole model, cut over the groups that are given.
inline Holding holding(const ModelSection& section, const LayerGroups& groups) {
  Holding all = Holding::whole(section);
  if (groups.tensor) all.shares.tensor = {groups.tensor->rank(), groups.tensor->size()};
  if (groups.expert) all.shares.expert = {groups.expert->rank(), groups.expert->size()};
  if (groups.expert_tensor) all.shares.expert_tensor = {groups.expert_tensor->rank(), groups.expert_tensor->size()};
  return all;
}

struct SmallModel {
  SmallModel(const ModelSection& section_, Compute compute, Reproducibility mode, BatchSizes sizes_,
             std::uint64_t seed = 7, Model::Use use = Model::Use::training, const LayerGroups& groups = {},
             std::int64_t num_positions = 128)
      : section(section_),
        sizes(sizes_),
        table(section, holding(section, groups)),
        types(model_types(compute, mode)),
        arena({"test", Arena::Mode::allocate, true}, 512 << 20),
        store(table, types, arena, &arena),
        model(section, store, num_positions, arena) {
    if (groups.tensor) sizes.tensor = groups.tensor->size();
    if (groups.expert) sizes.experts.size = groups.expert->size();
    if (groups.expert_tensor) sizes.experts.tensor = groups.expert_tensor->size();
    model.allocate(sizes, use, arena, Recompute::none, groups);
    for (const Parameter& p : table.all()) {
      const Tensor w = store.weight(store.slot(p.name));
      initialise_rows(p, seed, section.initializer_range, 0, w);
    }
    zero_gradients();
    if (mode == Reproducibility::layout) {
      options.attention_block = sizes.tokens_per_sequence / 16;
      options.weight_cuts = {.rows = sizes.tokens_per_sequence / 16, .refused = &refused};
      options.token_cuts = {.rows = 1, .refused = &refused};
      options.query_leaves = 16;
      options.leaves = layout_leaves(section, compute, sizes.tensor, sizes.experts.size, sizes.experts.tensor);
    } else {
      options.attention_block = 4;
    }
  }
  void zero_gradients() {
    for (ParameterSet set : {ParameterSet::matrices, ParameterSet::full_precision})
      fill_zero(stream, store.gradients(set));
  }

  ModelSection section;
  BatchSizes sizes;
  ParameterTable table;
  ModelTypes types;
  Arena arena;
  ThreadPool pool{1};
  Stream stream{pool};
  ParameterStore store;
  Model model;
  Context options;
  std::int32_t refused = 0;
};

/// Random tokens; two documents in the first sequence; some targets masked.
struct SmallBatch {
  explicit SmallBatch(BatchSizes sizes, std::int64_t vocab, std::uint64_t seed = 3, std::int64_t first_sequence = 0) {
    const std::int64_t M = sizes.rows, T = sizes.tokens_per_sequence;
    for (auto* v : {&tokens, &targets, &positions, &begin, &end, &mtp_tokens, &mtp_targets})
      v->resize(static_cast<std::size_t>(M));
    const RandomKey key = random_key(seed, "test", "tokens");
    auto token = [&](std::int64_t sequence, std::int64_t t) {
      return static_cast<std::int32_t>(random_bits(key, static_cast<std::uint64_t>(sequence * (T + 2) + t)) %
                                       static_cast<std::uint64_t>(vocab));
    };
    for (std::int64_t i = 0; i < M; ++i) {
      const auto u = static_cast<std::size_t>(i);
      const std::int64_t s = first_sequence + i / T, t = i % T;
      const std::int64_t document = s == 0 && t >= T / 2 ? T / 2 : 0;
      tokens[u] = token(s, t);
      targets[u] = t % 5 == 4 ? -1 : token(s, t + 1);
      positions[u] = static_cast<std::int32_t>(t - document);
      begin[u] = static_cast<std::int32_t>(i - t + document);
      end[u] = static_cast<std::int32_t>(i + 1);
      mtp_tokens[u] = token(s, t + 1);
      mtp_targets[u] = t % 7 == 6 ? -1 : token(s, t + 2);
    }
  }
  BatchTensors tensors() {
    auto t = [](std::vector<std::int32_t>& v) {
      return Tensor(v.data(), DType::i32, {static_cast<std::int64_t>(v.size())});
    };
    return {t(tokens), t(targets), t(positions), t(begin), t(end), t(mtp_tokens), t(mtp_targets)};
  }
  std::vector<std::int32_t> tokens, targets, positions, begin, end, mtp_tokens, mtp_targets;
};

template <class T>
double total_loss(const BatchLosses& l, const LossWeights& w) {
  double total = 0;
  for (std::int64_t i = 0; i < l.loss_M.num_elements(); ++i) {
    total += static_cast<double>(l.loss_M.as<T>()[i]);
    if (l.loss_mtp_M) total += w.mtp * static_cast<double>(l.loss_mtp_M.as<T>()[i]);
  }
  if (w.balance == 0) return total;  // nobody wrote them
  for (const Tensor& b : l.balance_S)
    for (std::int64_t s = 0; s < b.num_elements(); ++s) total += static_cast<double>(b.as<T>()[s]);
  return total;
}

/// Every gradient that one forward and backward pass of `m` (fp64) leaves, element by element, against the central
/// difference of the total loss; a tensor without any gradient fails too.
void expect_gradients_of_finite_differences(SmallModel& m, SmallBatch& batch, const LossWeights& weights);

}  // namespace fourmi
