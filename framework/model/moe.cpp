#include "framework/model/moe.h"

#include <algorithm>

#include "kernels/ops/permute.h"
#include "kernels/ops/reduce.h"
#include "kernels/ops/swiglu.h"

namespace fourmi {

Moe::Moe(const ModelSection& m, const ParameterStore& store, std::int64_t layer)
    : D_(m.hidden_size), F_(m.moe_intermediate_size), E_(m.n_routed_experts), K_(m.num_experts_per_tok) {
  const MoeNames names = moe_names(m, layer);
  routing_ = {.scoring = m.scoring_func == "softmax" ? Scoring::softmax : Scoring::sigmoid,
              .group_score = m.topk_method == "noaux_tc" ? GroupScore::top2_sum : GroupScore::max,
              // "greedy" knows no groups (DeepSeek-V2-Lite); the other methods limit a token to topk_group of them.
              .num_groups = m.topk_method == "greedy" ? 1 : m.n_group,
              .topk_group = m.topk_method == "greedy" ? 1 : m.topk_group,
              .normalise = m.norm_topk_prob,
              .scaling_factor = m.routed_scaling_factor};
  router_ = store.slot(names.router());
  if (m.topk_method == "noaux_tc") bias_ = store.slot(names.block + "gate.e_score_correction_bias");
  gate_up_ = store.slot(names.expert(0, names.gate), names.expert(E_ - 1, names.up), {E_, 2 * F_, D_});
  down_ = store.slot(names.expert(0, names.down), names.expert(E_ - 1, names.down), {E_, D_, F_});
  if (m.n_shared_experts > 0) shared_.emplace(store, names.block + "shared_experts.");
}

Moe::Sizes Moe::sizes(const BatchSizes& batch, const ModelTypes& types) const {
  Sizes s{batch, types, D_, F_, E_, K_, std::nullopt};
  if (shared_) s.shared = shared_->sizes(batch, types);
  return s;
}

/// The router works in the accumulator dtype; widening bf16 is exact.
Tensor Moe::router_input(const Context& c, const Tensor& x_MD, Saved& s) const {
  if (!s.x32_MD) return x_MD;
  convert(*c.stream, x_MD, s.x32_MD);
  return s.x32_MD;
}

/// Every block's statistics, in the order of the sequences.
void Moe::share_statistics(const Context& c, Saved& s) const {
  const bool both = static_cast<bool>(s.row_counts_BE);
  RowExchange::Moves moves = c.moves();
  const Tensor counts = moves.gather(s.counts_BE, both ? s.row_counts_BE : s.all_counts_BE);
  const Tensor sums = moves.gather(s.sums_BE, both ? s.row_sums_BE : s.all_sums_BE);
  moves.finish();
  if (!c.sequences) return;
  c.sequences->gather(counts, s.all_counts_BE);
  c.sequences->gather(sums, s.all_sums_BE);
  c.sequences->finish(*c.stream);
}

/// Statistics are a sequence's, so ranks that share one exchange what they found of its blocks; the loss counts where
/// the sequence begins.
void Moe::balance(const Context& c, Saved& s) const {
  const Stream& stream = *c.stream;
  const std::int64_t T = c.sizes.tokens_per_sequence;
  if (!s.counts_BE) {
    balance_loss(stream, c.balance_weight, T, K_, s.scores_ME, s.balance_S, s.dscores_ME);
    return;
  }
  balance_partials(stream, K_, T / 16, s.scores_ME, s.counts_BE, s.sums_BE);
  share_statistics(c, s);
  const std::int64_t rows = s.scores_ME.dim(0), first = (c.rows ? c.rows->rank() : 0) * rows;
  const std::int64_t of_sequence = T / c.sizes.context;  // rows among those of the tensor axis
  for (std::int64_t i = 0; i < s.balance_S.dim(0); ++i) {
    const std::int64_t begin = std::max(first, i * of_sequence), end = std::min(first + rows, (i + 1) * of_sequence);
    const Tensor loss = s.balance_S.rows(i, i + 1);
    if (begin < end)
      balance_finish(stream, c.balance_weight, T, K_, s.all_counts_BE.rows(16 * i, 16 * i + 16),
                     s.all_sums_BE.rows(16 * i, 16 * i + 16), s.scores_ME.rows(begin - first, end - first), loss,
                     s.dscores_ME.rows(begin - first, end - first));
    if (begin >= end || begin != i * of_sequence || (c.sequences && c.sequences->rank() != 0)) fill_zero(stream, loss);
  }
}

void Moe::route(const Context& c, const Tensor& x_MD, Saved& s, const Tensor& counts_E) const {
  const Stream& stream = *c.stream;
  const OwningSpan span(stream.timeline(), Work::router, "route");
  linear_forward(stream, router_input(c, x_MD, s), c.weight(router_), s.logits_ME);
  routing_forward(stream, routing_, s.logits_ME, bias_ ? c.weight(*bias_) : Tensor{}, s.scores_ME, s.experts_MK,
                  s.weights_MK);
  if (c.balance_weight != 0) balance(c, s);
  if (counts_E) count_choices(stream, s.experts_MK, counts_E);
}

void Moe::experts(const Context& c, Saved& s) const {
  const Stream& stream = *c.stream;
  grouped_linear_forward(stream, s.rows_RD, c.weight(gate_up_), s.offsets(), s.gate_up_R2F);
  swiglu_forward(stream, s.gate_up_R2F, s.h_RF, s.h_RF.dim(0));
  grouped_linear_forward(stream, s.h_RF, c.weight(down_), s.offsets(), s.out_RD);
}

void Moe::forward(const Context& c, const Tensor& x_MD, Saved& s, const Tensor& y_MD, const Tensor& residual_MD,
                  const Tensor& counts_E) const {
  const Stream& stream = *c.stream;
  route(c, x_MD, s, counts_E);
  permute_plan(stream, s.experts_MK, s.offsets(), s.row_token_R, s.row_of_MK);  // dispatch
  permute_forward(stream, x_MD, s.row_token_R, s.rows_RD);
  experts(c, s);
  if (zero_routed_) fill_zero(stream, s.out_RD);
  Tensor base = residual_MD;  // combine
  if (shared_) {
    shared_->forward(c, c.leaves.shared_intermediate, x_MD, s.shared, s.base_MD, residual_MD);
    base = s.base_MD;
  }
  combine_forward(stream, s.out_RD, s.weights_MK, s.row_of_MK, y_MD, base);
}

void Moe::recompute(const Context& c, const Tensor& x_MD, Saved& s, Recompute mode) const {
  const Stream& stream = *c.stream;
  if (mode == Recompute::full) {
    route(c, x_MD, s, {});
    permute_plan(stream, s.experts_MK, s.offsets(), s.row_token_R, s.row_of_MK);
    permute_forward(stream, x_MD, s.row_token_R, s.rows_RD);
    experts(c, s);
  } else {
    router_input(c, x_MD, s);
    permute_forward(stream, x_MD, s.row_token_R, s.rows_RD);
    swiglu_forward(stream, s.gate_up_R2F, s.h_RF, s.h_RF.dim(0));
  }
  if (shared_) shared_->recompute(c, x_MD, s.shared, mode);
}

void Moe::backward_input(const Context& c, const Saved& s, const Tensor& dy_MD, Gradients& g,
                         const Tensor& dx_MD) const {
  const Stream& stream = *c.stream;
  combine_backward(stream, dy_MD, s.out_RD, s.weights_MK, s.row_of_MK, g.dout_RD, g.dweights_MK);
  grouped_linear_backward_input(stream, g.dout_RD, c.weight(down_), s.offsets(), g.dh_RF);
  swiglu_backward(stream, g.dh_RF, s.gate_up_R2F, g.dgate_up_R2F, g.dh_RF.dim(0));
  grouped_linear_backward_input(stream, g.dgate_up_R2F, c.weight(gate_up_), s.offsets(), g.drows_RD);
  if (shared_) shared_->backward_input(c, c.leaves.shared_intermediate, s.shared, dy_MD, g.shared, g.dshared_MD);
  {
    const OwningSpan span(stream.timeline(), Work::router, "route_backward_input");
    routing_backward(stream, routing_, g.dweights_MK, s.scores_ME, s.experts_MK,
                     c.balance_weight != 0 ? s.dscores_ME : Tensor{}, g.dlogits_ME);
    linear_backward_input(stream, g.dlogits_ME, c.weight(router_), g.dx32_MD);
  }
  permute_backward(stream, g.drows_RD, s.row_of_MK, dx_MD, g.dshared_MD, g.dx32_MD);
}

void Moe::backward_weight(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD,
                          const Gradients& g) const {
  const Stream& stream = *c.stream;
  Cuts cuts = c.weight_cuts;
  cuts.row_token = s.row_token_R.as<std::int32_t>();
  grouped_linear_backward_weight(stream, g.dout_RD, s.h_RF, s.offsets(), c.gradient(down_), cuts);
  grouped_linear_backward_weight(stream, g.dgate_up_R2F, s.rows_RD, s.offsets(), c.gradient(gate_up_), cuts);
  if (shared_) shared_->backward_weight(c, x_MD, s.shared, dy_MD, g.shared);
  const OwningSpan span(stream.timeline(), Work::router, "route_backward_weight");
  linear_backward_weight(stream, g.dlogits_ME, s.x32_MD ? s.x32_MD : x_MD, c.gradient(router_), c.token_cuts);
}

}  // namespace fourmi
