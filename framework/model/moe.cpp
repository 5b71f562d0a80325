#include "framework/model/moe.h"

#include <algorithm>

#include "framework/model/products.h"
#include "kernels/ops/reduce.h"

namespace fourmi {

Moe::Moe(const ModelSection& m, const ParameterStore& store, std::int64_t layer)
    : D_(m.hidden_size), E_(m.n_routed_experts), K_(m.num_experts_per_tok), experts_(m, store, layer) {
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
  if (m.n_shared_experts > 0) shared_.emplace(store, names.block + "shared_experts.");
}

Moe::Sizes Moe::sizes(const BatchSizes& batch, const ModelTypes& types) const {
  Sizes s{batch, types, D_, E_, K_, experts_.sizes(batch, types), std::nullopt};
  if (shared_) s.shared = shared_->sizes(batch, types);
  return s;
}

/// The router works in the accumulator dtype; widening bf16 is exact.
Tensor Moe::router_input(const Context& c, const Tensor& x_MD, const Tensor& x32_MD) {
  if (!x32_MD) return x_MD;
  convert(*c.stream, x_MD, x32_MD);
  return x32_MD;
}

/// Every block's statistics, sequence after sequence, inside one in the order of the ranks. Nobody waits for them but
/// the balance loss, so others work meanwhile.
void Moe::share_statistics(const Context& c, const Saved& s, const Meanwhile& meanwhile) const {
  const bool both = static_cast<bool>(s.row_counts_BE);
  RowExchange::Moves moves = c.moves();
  const Tensor counts = moves.gather(s.counts_BE, both ? s.row_counts_BE : s.all_counts_BE);
  const Tensor sums = moves.gather(s.sums_BE, both ? s.row_sums_BE : s.all_sums_BE);
  const auto of_sequences = [&] {
    if (!c.sequences) return;
    c.sequences->gather(counts, s.all_counts_BE);
    c.sequences->gather(sums, s.all_sums_BE);
  };
  if (moves.alone()) of_sequences();
  moves.finish(meanwhile);
  if (!moves.alone()) of_sequences();
  if (c.sequences) c.sequences->finish(*c.stream);
}

/// Statistics are a sequence's, so ranks that share one exchange what they found of its blocks.
void Moe::begin_balance(const Context& c, Saved& s) const {
  const std::int64_t T = c.sizes.tokens_per_sequence;
  if (s.counts_BE)
    balance_partials(*c.stream, K_, T / 16, s.scores_ME, s.counts_BE, s.sums_BE);
  else
    balance_loss(*c.stream, c.balance_weight, T, K_, s.scores_ME, s.balance_S, s.dscores_ME);
}

/// The loss counts where the sequence begins.
void Moe::finish_balance(const Context& c, const Saved& s, const Meanwhile& meanwhile) const {
  if (c.balance_weight == 0 || !s.counts_BE) return meanwhile();
  const Stream& stream = *c.stream;
  const std::int64_t T = c.sizes.tokens_per_sequence;
  share_statistics(c, s, meanwhile);
  const OwningSpan span(stream.timeline(), Work::router, "finish_balance");
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
  linear_forward(stream, router_input(c, x_MD, s.x32_MD), c.weight(router_), s.logits_ME);
  routing_forward(stream, routing_, s.logits_ME, bias_ ? c.weight(*bias_) : Tensor{}, s.scores_ME, s.experts_MK,
                  s.weights_MK);
  if (c.balance_weight != 0) begin_balance(c, s);
  if (counts_E) count_choices(stream, s.experts_MK, counts_E);
}

void Moe::plan_forward(const Context& c, const Tensor& x_MD, Saved& s, const Tensor& counts_E) const {
  route(c, x_MD, s, counts_E);
  activation_operand(c, x_MD, s.operand_MD, experts_.gate_up());
  experts_.plan_forward(c, choices(s), s.experts);
}

void Moe::start_forward(const Context& c, const Tensor& x_MD, Saved& s, const Tensor& residual_MD) const {
  experts_.start_forward(c, operand(s, x_MD), choices(s), s.experts);
  finish_balance(c, s, [&] {
    if (shared_) shared_->forward(c, c.leaves.shared_intermediate, operand(s, x_MD), s.shared, s.base_MD, residual_MD);
  });
}

void Moe::compute_forward(const Context& c, const Tensor& x_MD, const Saved& s) const {
  experts_.compute_forward(c, operand(s, x_MD), choices(s), s.experts);
}

void Moe::finish_forward(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& y_MD,
                         const Tensor& residual_MD) const {
  experts_.finish_forward(c, operand(s, x_MD), choices(s), s.experts, y_MD, shared_ ? s.base_MD : residual_MD);
}

void Moe::forward(const Context& c, const Tensor& x_MD, Saved& s, const Tensor& y_MD, const Tensor& residual_MD,
                  const Tensor& counts_E) const {
  plan_forward(c, x_MD, s, counts_E);
  start_forward(c, x_MD, s, residual_MD);
  compute_forward(c, x_MD, s);
  finish_forward(c, x_MD, s, y_MD, residual_MD);
}

void Moe::recompute(const Context& c, const Tensor& x_MD, Saved& s, Recompute mode) const {
  if (mode == Recompute::full) route(c, x_MD, s, {});
  const Tensor rows_MD = activation_operand(c, x_MD, s.operand_MD, experts_.gate_up());
  const auto others = [&] {
    experts_.recompute(c, rows_MD, choices(s), s.experts, mode);
    if (shared_) shared_->recompute(c, rows_MD, s.shared, mode);
  };
  mode == Recompute::full ? finish_balance(c, s, others) : others();
}

void Moe::restore_operand(const Context& c, const Tensor& x_MD, const Saved& s) const {
  activation_operand(c, x_MD, s.operand_MD, experts_.gate_up());
}

/// Of some of the tokens.
void Moe::route_backward(const Context& c, const Saved& s, Share::Range tokens, Gradients& g) const {
  const Stream& stream = *c.stream;
  const OwningSpan span(stream.timeline(), Work::router, "route_backward_input");
  const auto some = [&](const Tensor& x_M) { return x_M.rows(tokens.begin, tokens.end); };
  routing_backward(stream, routing_, some(g.dweights_MK), some(s.scores_ME), some(s.experts_MK),
                   c.balance_weight != 0 ? some(s.dscores_ME) : Tensor{}, some(g.dlogits_ME));
  linear_backward_input(stream, some(g.dlogits_ME), c.weight(router_), some(g.dx32_MD));
}

void Moe::start_backward(const Context& c, const Saved& s, const Tensor& dy_MD, Gradients& g,
                         const Meanwhile& gathering, const Meanwhile& summing) const {
  experts_.start_backward(c, s.experts, dy_MD, g.experts);
  if (shared_)
    shared_->backward_input(c, c.leaves.shared_intermediate, s.shared, dy_MD, g.shared, g.dshared_MD, gathering,
                            summing);
  else
    gathering();
}

void Moe::compute_backward(const Context& c, const Tensor& x_MD, const Saved& s, int round, const Tensor& dy_MD,
                           Gradients& g) const {
  experts_.begin_backward_input(c, operand(s, x_MD), choices(s), s.experts, round, dy_MD, g.experts, g.dweights_MK);
  route_backward(c, s, Experts::tokens_of(c, s.experts, round), g);
}

void Moe::send_backward(const Context& c, const Saved& s, int round, const Gradients& g) const {
  experts_.send_backward_input(c, choices(s), s.experts, round, g.experts);
}

void Moe::finish_backward(const Context& c, const Saved& s, int round, const Gradients& g, const Tensor& dx_MD) const {
  experts_.finish_backward_input(c, choices(s), s.experts, round, g.experts, dx_MD, g.dshared_MD, g.dx32_MD);
}

void Moe::backward_input(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD, Gradients& g,
                         const Tensor& dx_MD, const Meanwhile& gathering, const Meanwhile& summing,
                         const Meanwhile& combining) const {
  start_backward(c, s, dy_MD, g, gathering, summing);
  for (int round = 0; round < num_rounds(s); ++round) {
    compute_backward(c, x_MD, s, round, dy_MD, g);
    send_backward(c, s, round, g);
    if (round + 1 == num_rounds(s)) combining();
    finish_backward(c, s, round, g, dx_MD);
  }
}

void Moe::backward_weight_routed(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD,
                                 const Gradients& g) const {
  const Stream& stream = *c.stream;
  experts_.backward_weight(c, operand(s, x_MD), choices(s), s.experts, dy_MD, g.experts);
  const OwningSpan span(stream.timeline(), Work::router, "route_backward_weight");
  linear_backward_weight(stream, g.dlogits_ME, router_input(c, x_MD, s.x32_MD), c.gradient(router_), c.token_cuts);
}

void Moe::backward_weight_shared(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD,
                                 const Gradients& g) const {
  if (shared_) shared_->backward_weight(c, operand(s, x_MD), s.shared, dy_MD, g.shared);
}

void Moe::backward_weight(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD,
                          const Gradients& g) const {
  backward_weight_routed(c, x_MD, s, dy_MD, g);
  backward_weight_shared(c, x_MD, s, dy_MD, g);
}

}  // namespace fourmi
