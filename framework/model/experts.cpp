#include "framework/model/experts.h"

#include "framework/model/products.h"
#include "kernels/ops/copy.h"
#include "kernels/ops/reduce.h"

namespace fourmi {

Experts::Experts(const ModelSection& m, const ParameterStore& store, std::int64_t layer)
    : model_(m), D_(m.hidden_size), K_(m.num_experts_per_tok) {
  const Shares& shares = store.table().shares();
  const Share::Range held = shares.expert.of(m.n_routed_experts);
  E_ = held.count();
  F_ = shares.expert_tensor.of(m.moe_intermediate_size).count();
  const MoeNames names = moe_names(m, layer);
  gate_up_ = store.slot(names.expert(held.begin, names.gate), names.expert(held.end - 1, names.up), {E_, 2 * F_, D_});
  down_ = store.slot(names.expert(held.begin, names.down), names.expert(held.end - 1, names.down), {E_, D_, F_});
}

Experts::Sizes Experts::sizes(const BatchSizes& batch, const ModelTypes& types) const {
  Sizes s{batch, types, D_, F_, E_, K_, !batch.experts.alone(), {}};
  if (s.travels)
    s.dispatch = dispatch_sizes(batch.experts.method, batch.experts.size,
                                batch.experts.options(model_, batch.shard_rows(), types.accumulate));
  return s;
}

/// Rows of all ranks that hold columns of these experts: this rank's own where
/// it holds all columns.
Tensor Experts::joined(const Context& c, const Saved& s, const Tensor& own_R, const Tensor& all_A) const {
  if (!c.columns) return own_R;
  c.columns->gather(*c.stream, s.each_Qe1, own_R.rows(0, s.num_rows()), all_A);
  return all_A;
}

/// out = down_proj h
void Experts::apply_down(const Context& c, const Saved& s) const {
  const std::int64_t leaves = c.leaves.expert_intermediate;
  if (!c.columns) {
    grouped_linear_forward(*c.stream, s.h_AF, c.matrix(down_), s.offsets(), s.out_RD, leaves);
    return;
  }
  grouped_linear_forward(*c.stream, s.h_AF, c.matrix(down_), s.all_offsets(), c.columns->partial(0), leaves);
  c.columns->sum(*c.stream, s.each_Qe1, 1, s.out_RD.rows(0, s.num_rows()));
}

/// drows = dgate_up times both weights. In mode layout gate and up have a tree
/// each (Leaves::apart).
void Experts::apply_gate_up_backward(const Context& c, const Saved& s, const Gradients& g) const {
  const Stream& stream = *c.stream;
  const std::int64_t leaves = c.leaves.expert_intermediate, all = s.num_all();
  if (!c.columns) {
    grouped_input_gradient(c, g.dgate_up_A2F, gate_up_, s.offsets(), g.drows_RD, c.leaves.apart ? 2 * leaves : 1);
    return;
  }
  const std::span<const std::int32_t> offsets = s.all_offsets();
  if (!c.leaves.apart) grouped_input_gradient(c, g.dgate_up_A2F, gate_up_, offsets, c.columns->partial(0));
  for (int half = 0; half < 2 && c.leaves.apart; ++half) {
    const Tensor dy_AF(g.dh_AF.data, g.dgate_up_A2F.dtype, g.dh_AF.shape);  // dh was read
    copy_columns(stream, g.dgate_up_A2F.rows(0, all), half * F_, dy_AF.rows(0, all), 0, F_);
    for (std::int64_t e = 0; e < E_; ++e) {
      Slot w = gate_up_.rows((2 * e + half) * F_, (2 * e + half + 1) * F_);
      w.shape = {1, F_, D_};
      grouped_input_gradient(c, dy_AF, w, offsets.subspan(static_cast<std::size_t>(e), 2), c.columns->partial(half),
                             leaves);
    }
  }
  c.columns->sum(stream, s.each_Qe1, c.leaves.apart ? 2 : 1, g.drows_RD.rows(0, s.num_rows()));
}

/// The round's rows, to the ranks of their experts.
void Experts::send(const Context& c, const Tensor& x_MD, const Choices& choices, const Saved& s, int round) const {
  if (c.experts && has_rows(c, s, round))
    c.experts->start_dispatch(*c.stream, s.plan, round, x_MD, choices.weights_MK, s.arrived);
}

/// As they arrive, in experts' order, through their experts.
void Experts::compute(const Context& c, const Tensor& x_MD, const Choices& choices, const Saved& s, int round) const {
  const Stream& stream = *c.stream;
  Arrivals a{x_MD, choices.experts_MK, choices.weights_MK};
  if (!has_rows(c, s, round))
    a = {s.arrived.x_UD.rows(0, 0), s.arrived.experts_UK.rows(0, 0), s.arrived.weights_UK.rows(0, 0)};
  else if (c.experts)
    a = c.experts->finish_dispatch(stream);
  permute_plan(stream, a.experts_UK, s.offsets(), s.row_token_R, s.row_of_UK.rows(0, a.x_UD.dim(0)));
  if (c.columns) c.columns->join(s.offsets(), s.each_Qe1, s.all_offsets());
  if (c.sizes.experts.cut) bring_tokens(c, s, round);
  permute_forward(stream, a.x_UD, s.row_token_R, s.rows_RD.rows(0, s.num_rows()));
  grouped_linear_forward(stream, joined(c, s, s.rows_RD, s.all_rows_AD), c.matrix(gate_up_), s.all_offsets(),
                         s.gate_up_A2F);
  swiglu_operand(c, s.gate_up_A2F, s.h_AF, s.num_all(), down_);
  apply_down(c, s);
  if (!s.kept_A2F) return;
  keep_scaled(c, s.gate_up_A2F.rows(0, s.num_all()), s.kept_A2F.rows(0, s.num_all()));
  keep_scaled(c, s.out_RD.rows(0, s.num_rows()), s.kept_out_RD.rows(0, s.num_rows()));
}

/// Which token each row is, over all ranks whose rows are computed together.
/// (With all of it here row_token says it.)
void Experts::bring_tokens(const Context& c, const Saved& s, int round) const {
  const std::int64_t n = s.num_rows();
  Tensor own_R1 = s.row_token_R.rows(0, n).view({n, 1});
  if (c.experts && has_rows(c, s, round)) {
    own_R1 = s.cut_token_R1.rows(0, n);
    permute_forward(*c.stream, c.experts->dispatch_tokens(*c.stream, s.plan, round, s.tokens_U1), s.row_token_R,
                    own_R1);
  }
  if (c.columns)
    c.columns->gather_tokens(*c.stream, s.each_Qe1, own_R1, c.sizes.experts.size * c.sizes.shard_rows(),
                             s.all_cut_token_A1);
}

/// What bring() found of the round, where backward needs it.
Arrivals Experts::arrived(const Context& c, const Choices& choices, const Saved& s, int round) const {
  if (!c.experts) return {{}, choices.experts_MK, choices.weights_MK};
  const std::int64_t U = has_rows(c, s, round) ? s.plan.num_arriving(round) : 0;
  return {{}, s.arrived.experts_UK.rows(0, U), s.arrived.weights_UK.rows(0, U)};
}

ExpertLeaves Experts::leaves(const Context& c, const Tensor& experts_UK) const {
  return {.leaves = c.leaves.experts, .num_experts = E_, .experts_MK = experts_UK};
}

void Experts::plan_forward(const Context& c, const Choices& choices, Saved& s) const {
  if (c.experts) c.experts->plan(*c.stream, choices.experts_MK, s.plan);
  s.rounds = c.experts ? s.plan.num_rounds() : 1;
  if (c.experts && c.columns) s.rounds = c.columns->most(s.rounds);
}

void Experts::start_forward(const Context& c, const Tensor& x_MD, const Choices& choices, const Saved& s) const {
  if (num_rounds(s) == 1) send(c, x_MD, choices, s, 0);
}

void Experts::compute_forward(const Context& c, const Tensor& x_MD, const Choices& choices, const Saved& s) const {
  if (num_rounds(s) > 1) return;
  compute(c, x_MD, choices, s, 0);
  give_back(c, choices, s, 0);
}

/// The sums of what arrived in a round, on their way back.
void Experts::give_back(const Context& c, const Choices& choices, const Saved& s, int round) const {
  const Stream& stream = *c.stream;
  if (!has_rows(c, s, round)) return;
  if (zero_) fill_zero(stream, s.out_RD.rows(0, s.num_rows()));
  if (!c.experts) return;
  const auto [_, experts_UK, weights_UK] = arrived(c, choices, s, round);
  const std::int64_t U = experts_UK.dim(0);
  const Tensor sum_UD = s.sum_UD.rows(0, U);
  combine_forward(stream, s.out_RD, weights_UK, s.row_of_UK.rows(0, U), sum_UD, {}, leaves(c, experts_UK));
  c.experts->start_combine(stream, s.plan, round, sum_UD);
}

void Experts::finish_forward(const Context& c, const Tensor& x_MD, const Choices& choices, const Saved& s,
                             const Tensor& y_MD, const Tensor& base_MD) const {
  const Stream& stream = *c.stream;
  if (!c.experts) {
    combine_forward(stream, s.out_RD, choices.weights_MK, s.row_of_UK, y_MD, base_MD, leaves(c, choices.experts_MK));
    return;
  }
  for (int round = 0; round < num_rounds(s); ++round) {
    if (num_rounds(s) > 1) {
      bring(c, x_MD, choices, s, round);
      give_back(c, choices, s, round);
    }
    if (has_rows(c, s, round)) c.experts->finish_combine(stream, y_MD, base_MD);
  }
}

void Experts::recompute(const Context& c, const Tensor& x_MD, const Choices& choices, Saved& s, Recompute mode) const {
  if (num_rounds(s) > 1) return;  // backward brings each round's rows again
  if (mode == Recompute::full) {
    s.plan.experts_MK = choices.experts_MK;  // forward may have had another memory (pair.h)
    bring(c, x_MD, choices, s, 0);
    return;
  }
  const Stream& stream = *c.stream;
  const Tensor x_UD =
      c.experts ? c.experts->dispatch(stream, s.plan, 0, x_MD, {}, {s.arrived.x_UD, {}, {}}).x_UD : x_MD;
  permute_forward(stream, x_UD, s.row_token_R, s.rows_RD.rows(0, s.num_rows()));
  joined(c, s, s.rows_RD, s.all_rows_AD);
  if (!s.kept_A2F) swiglu_operand(c, s.gate_up_A2F, s.h_AF, s.num_all(), down_);
}

/// The round's dy, to the ranks of its experts.
void Experts::send_dy(const Context& c, const Saved& s, int round, const Tensor& dy_MD, const Gradients& g) const {
  const Stream& stream = *c.stream;
  if (!has_rows(c, s, round)) return;
  // Where nothing travels too: a layout changes no bit.
  if (g.dy_MD) quantize(stream, dy_MD, g.dy_MD, c.types().gradient_scaling);
  if (c.experts) c.experts->start_dispatch(stream, s.plan, round, g.dy_MD ? g.dy_MD : dy_MD, {}, {g.dy_UD, {}, {}});
}

void Experts::start_backward(const Context& c, const Saved& s, const Tensor& dy_MD, const Gradients& g) const {
  if (num_rounds(s) == 1) send_dy(c, s, 0, dy_MD, g);
}

/// Of the round, which is brought again unless it is the only one: dout, dgate_up, and dweights of what arrived.
void Experts::backward_to_gate_up(const Context& c, const Tensor& x_MD, const Choices& choices, const Saved& s,
                                  int round, const Tensor& dy_MD, const Gradients& g, const Tensor& dweights_UK) const {
  const Stream& stream = *c.stream;
  if (s.rounds > 1) {
    bring(c, x_MD, choices, s, round);
    send_dy(c, s, round, dy_MD, g);
  }
  if (has_rows(c, s, round)) {
    const Tensor weights_UK = arrived(c, choices, s, round).weights_UK;
    const Tensor dy_UD = c.experts ? c.experts->finish_dispatch(stream).x_UD : g.dy_MD ? g.dy_MD : dy_MD;
    Tensor out_RD = s.out_RD;
    if (s.kept_out_RD) {
      out_RD = g.drows_RD;  // written later
      dequantize(stream, s.kept_out_RD.rows(0, s.num_rows()), out_RD.rows(0, s.num_rows()));
    }
    combine_gradient_operand(c, dy_UD, out_RD, weights_UK, s.row_of_UK.rows(0, weights_UK.dim(0)), g.dout_RD,
                             dweights_UK, s.num_rows(), down_);
  }
  grouped_input_gradient(c, joined(c, s, g.dout_RD, g.all_dout_AD), down_, s.all_offsets(), g.dh_AF);
  restore_gate_up(c, s.kept_A2F, s.gate_up_A2F, s.num_all());
  swiglu_gradient_operand(c, g.dh_AF, s.gate_up_A2F, g.dgate_up_A2F, s.num_all(), gate_up_);
}

/// Of the rows that arrive in a round.
Tensor Experts::arrived_dweights(const Context& c, const Saved& s, int round, const Gradients& g) const {
  return g.dweights_UK.rows(0, has_rows(c, s, round) ? s.plan.num_arriving(round) : 0);
}

void Experts::begin_backward_input(const Context& c, const Tensor& x_MD, const Choices& choices, const Saved& s,
                                   int round, const Tensor& dy_MD, Gradients& g, const Tensor& dweights_MK) const {
  const Stream& stream = *c.stream;
  const bool travels = c.experts && has_rows(c, s, round);
  const Tensor dweights_UK = c.experts ? arrived_dweights(c, s, round, g) : dweights_MK;
  backward_to_gate_up(c, x_MD, choices, s, round, dy_MD, g, dweights_UK);
  if (travels) c.experts->start_combine(stream, s.plan, round, dweights_UK);
  apply_gate_up_backward(c, s, g);
  if (travels) c.experts->finish_combine(stream, dweights_MK);
  if (forms_weights_at_once(c, s)) add_weight_gradients(c, x_MD, s, g);
}

void Experts::send_backward_input(const Context& c, const Choices& choices, const Saved& s, int round,
                                  const Gradients& g) const {
  if (!c.experts || !has_rows(c, s, round)) return;
  const Tensor experts_UK = arrived(c, choices, s, round).experts_UK;
  const std::int64_t U = experts_UK.dim(0);
  const Tensor sum_UD = g.sum_UD.rows(0, U);
  permute_backward(*c.stream, g.drows_RD, s.row_of_UK.rows(0, U), sum_UD, {}, {}, leaves(c, experts_UK));
  c.experts->start_combine(*c.stream, s.plan, round, sum_UD);
}

void Experts::finish_backward_input(const Context& c, const Choices& choices, const Saved& s, int round,
                                    const Gradients& g, const Tensor& dx_MD, const Tensor& first_MD,
                                    const Tensor& second_MD) const {
  if (!c.experts)
    permute_backward(*c.stream, g.drows_RD, s.row_of_UK, dx_MD, first_MD, second_MD, leaves(c, choices.experts_MK));
  else if (has_rows(c, s, round))
    c.experts->finish_combine(*c.stream, dx_MD, first_MD, second_MD);
}

void Experts::backward_weight(const Context& c, const Tensor& x_MD, const Choices& choices, const Saved& s,
                              const Tensor& dy_MD, const Gradients& g) const {
  if (s.rounds == 1) return add_weight_gradients(c, x_MD, s, g);
  for (int round = 0; round < s.rounds && !forms_weights_at_once(c, s); ++round) {
    backward_to_gate_up(c, x_MD, choices, s, round, dy_MD, g, arrived_dweights(c, s, round, g));
    add_weight_gradients(c, x_MD, s, g);
  }
}

void Experts::add_weight_gradients(const Context& c, const Tensor& x_MD, const Saved& s, const Gradients& g) const {
  const Tensor &dout = c.columns ? g.all_dout_AD : g.dout_RD, &rows = c.columns ? s.all_rows_AD : s.rows_RD;
  const Tensor& token = c.columns ? s.all_cut_token_A1 : c.experts ? s.cut_token_R1 : s.row_token_R;
  if (s.kept_A2F && !c.experts && !c.columns)
    permute_forward(*c.stream, x_MD, s.row_token_R, s.rows_RD.rows(0, s.num_rows()));
  const auto* row_token = c.weight_cuts.rows > 0 ? token.as<std::int32_t>() : nullptr;
  restore_swiglu(c, s.kept_A2F, s.gate_up_A2F, s.h_AF, s.num_all(), down_);
  grouped_weight_gradient(c, dout, s.h_AF, s.all_offsets(), down_, row_token);
  grouped_weight_gradient(c, g.dgate_up_A2F, rows, s.all_offsets(), gate_up_, row_token);
}

}  // namespace fourmi
