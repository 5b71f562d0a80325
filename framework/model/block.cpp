#include "framework/model/block.h"

#include "framework/model/products.h"

namespace fourmi {

Block::Block(const ModelSection& m, const ParameterStore& store, std::int64_t layer)
    : layer_(layer),
      attention_(m, store, layer),
      norm_{.epsilon = m.rms_norm_eps},
      norm_weight_(store.slot(layer_prefix(layer) + "post_attention_layernorm.weight")),
      D_(m.hidden_size) {
  if (is_moe_layer(m, layer))
    moe_.emplace(m, store, layer);
  else
    dense_.emplace(store, layer_prefix(layer) + "mlp.");
}

Block::Sizes Block::sizes(const BatchSizes& batch, const ModelTypes& types) const {
  Sizes s{batch, types, D_, attention_.sizes(batch, types), std::nullopt, std::nullopt};
  if (dense_) s.dense = dense_->sizes(batch, types);
  if (moe_) s.moe = moe_->sizes(batch, types);
  return s;
}

/// What products read of it a mixture of experts makes itself: the router reads it too.
void Block::normalise(const Context& c, const Tensor& h_mD, const Saved& s) const {
  if (dense_)
    norm_operand(c, norm_, h_mD, norm_weight_, s.hn_mD, s.h_rstd_m, dense_->gate_up());
  else
    rms_norm_forward(*c.stream, norm_, h_mD, c.weight(norm_weight_), s.hn_mD, s.h_rstd_m);
}

void Block::feed_forward(const Context& c, const Tensor& h_mD, Saved& s, const Tensor& y_mD,
                         const Tensor& counts_E) const {
  normalise(c, h_mD, s);
  if (moe_)
    moe_->forward(c, s.hn_mD, s.moe, y_mD, h_mD, counts_E);
  else
    dense_->forward(c, c.leaves.intermediate, s.hn_mD, s.dense, y_mD, h_mD);
}

void Block::begin_forward(const Context& c, const Tensor& x_mD, Saved& s, const Tensor& counts_E) const {
  attention_.forward(c, x_mD, s.attention, s.h_mD);
  normalise(c, s.h_mD, s);
  if (moe_) moe_->plan_forward(c, s.hn_mD, s.moe, counts_E);
}

void Block::send_forward(const Context& c, Saved& s, const Tensor& y_mD) const {
  if (moe_)
    moe_->start_forward(c, s.hn_mD, s.moe, s.h_mD);
  else
    dense_->forward(c, c.leaves.intermediate, s.hn_mD, s.dense, y_mD, s.h_mD);
}

void Block::compute_forward(const Context& c, const Saved& s) const {
  if (moe_) moe_->compute_forward(c, s.hn_mD, s.moe);
}

void Block::finish_forward(const Context& c, const Saved& s, const Tensor& y_mD) const {
  if (moe_) moe_->finish_forward(c, s.hn_mD, s.moe, y_mD, s.h_mD);
}

void Block::forward(const Context& c, const Tensor& x_mD, Saved& s, const Tensor& y_mD, const Tensor& counts_E) const {
  const Span span(c.stream->timeline(), Work::other, "block_forward", layer_);
  begin_forward(c, x_mD, s, counts_E);
  send_forward(c, s, y_mD);
  compute_forward(c, s);
  finish_forward(c, s, y_mD);
}

void Block::recompute(const Context& c, const Tensor& x_mD, Saved& s, Recompute mode) const {
  const Span span(c.stream->timeline(), Work::other, "block_recompute", layer_);
  if (mode == Recompute::full)
    attention_.forward(c, x_mD, s.attention, s.h_mD);
  else
    attention_.recompute(c, x_mD, s.attention);
  normalise(c, s.h_mD, s);
  if (moe_)
    moe_->recompute(c, s.hn_mD, s.moe, mode);
  else
    dense_->recompute(c, s.hn_mD, s.dense, mode);
}

/// With scales a mixture of experts keeps less than it reads: the normalised input is made again (DeepSeek-V3 report
/// 3.2.3), in memory that forward shares among layers.
void Block::restore_normalised(const Context& c, const Saved& s) const {
  if (!moe_ || !s.moe.operand_MD) return;
  normalise(c, s.h_mD, s);
  moe_->restore_operand(c, s.hn_mD, s.moe);
}

void Block::backward_input(const Context& c, const Tensor& x_mD, const Saved& s, const Tensor& dy_mD, Gradients& g,
                           const Tensor& dx_mD) const {
  const Span span(c.stream->timeline(), Work::other, "block_backward_input", layer_);
  restore_normalised(c, s);
  if (moe_)
    moe_->backward_input(c, s.hn_mD, s.moe, dy_mD, g.moe, g.dhn_mD);
  else
    dense_->backward_input(c, c.leaves.intermediate, s.dense, dy_mD, g.dense, g.dhn_mD);
  rms_norm_backward_input(*c.stream, norm_, g.dhn_mD, s.h_mD, c.weight(norm_weight_), s.h_rstd_m, g.dh_mD, dy_mD);
  attention_.backward_input(c, x_mD, s.attention, g.dh_mD, g.attention, dx_mD);
}

void Block::backward_weight(const Context& c, const Tensor& x_mD, const Saved& s, const Tensor& dy_mD,
                            const Gradients& g) const {
  const Span span(c.stream->timeline(), Work::other, "block_backward_weight", layer_);
  restore_normalised(c, s);
  if (moe_)
    moe_->backward_weight(c, s.hn_mD, s.moe, dy_mD, g.moe);
  else
    dense_->backward_weight(c, s.hn_mD, s.dense, dy_mD, g.dense);
  rms_norm_backward_weight(*c.stream, norm_, g.dhn_mD, s.h_mD, s.h_rstd_m, c.gradient(norm_weight_), c.token_cuts);
  attention_.backward_weight(c, x_mD, s.attention, g.dh_mD, g.attention);
}

void Block::backward(const Context& c, const Tensor& x_mD, const Saved& s, const Tensor& dy_mD, Gradients& g,
                     const Tensor& dx_mD, const Meanwhile& gathering) const {
  const Span span(c.stream->timeline(), Work::other, "block_backward", layer_);
  // Not before: what is done meanwhile uses the memory that layers share.
  const auto begin = [&] {
    gathering();
    restore_normalised(c, s);
  };
  // Weight gradients of experts fill the time in which something travels: between experts where they are shared.
  const bool rows_travel = moe_ && c.experts && Moe::num_rounds(s.moe) == 1;
  const auto routed = [&] { moe_->backward_weight_routed(c, s.hn_mD, s.moe, dy_mD, g.moe); };
  const auto combining = [&] {
    if (rows_travel) routed();
  };
  if (moe_)
    moe_->backward_input(
        c, s.hn_mD, s.moe, dy_mD, g.moe, g.dhn_mD, begin,
        [&] { moe_->backward_weight_shared(c, s.hn_mD, s.moe, dy_mD, g.moe); }, combining);
  else
    dense_->backward_input(c, c.leaves.intermediate, s.dense, dy_mD, g.dense, g.dhn_mD, begin,
                           [&] { dense_->backward_weight_down(c, s.dense, dy_mD, g.dense); });
  rms_norm_backward_input(*c.stream, norm_, g.dhn_mD, s.h_mD, c.weight(norm_weight_), s.h_rstd_m, g.dh_mD, dy_mD);
  attention_.backward(c, x_mD, s.attention, g.dh_mD, g.attention, dx_mD, [&] {
    if (moe_ && !rows_travel) routed();
    if (dense_) dense_->backward_weight_gate_up(c, s.hn_mD, s.dense, g.dense);
    rms_norm_backward_weight(*c.stream, norm_, g.dhn_mD, s.h_mD, s.h_rstd_m, c.gradient(norm_weight_), c.token_cuts);
  });
}

void Block::begin_backward(const Context& c, const Saved& s, const Tensor& dy_mD, Gradients& g) const {
  restore_normalised(c, s);
  if (!moe_) return;
  FOURMI_CHECK(Moe::num_rounds(s.moe) == 1, "layer {}: backward in parts of {} rounds", layer_, Moe::num_rounds(s.moe));
  moe_->start_backward(c, s.moe, dy_mD, g.moe, {},
                       [&] { moe_->backward_weight_shared(c, s.hn_mD, s.moe, dy_mD, g.moe); });
}

void Block::compute_backward(const Context& c, const Saved& s, const Tensor& dy_mD, Gradients& g) const {
  if (moe_)
    moe_->compute_backward(c, s.hn_mD, s.moe, 0, dy_mD, g.moe);
  else
    dense_->backward_input(c, c.leaves.intermediate, s.dense, dy_mD, g.dense, g.dhn_mD, {},
                           [&] { dense_->backward_weight_down(c, s.dense, dy_mD, g.dense); });
}

void Block::backward_weight_feed_forward(const Context& c, const Saved& s, const Tensor& dy_mD,
                                         const Gradients& g) const {
  if (moe_)
    moe_->backward_weight_routed(c, s.hn_mD, s.moe, dy_mD, g.moe);
  else
    dense_->backward_weight_gate_up(c, s.hn_mD, s.dense, g.dense);
}

void Block::send_backward(const Context& c, const Saved& s, const Gradients& g) const {
  if (moe_) moe_->send_backward(c, s.moe, 0, g.moe);
}

void Block::finish_backward(const Context& c, const Tensor& x_mD, const Saved& s, const Tensor& dy_mD, Gradients& g,
                            const Tensor& dx_mD) const {
  if (moe_) moe_->finish_backward(c, s.moe, 0, g.moe, g.dhn_mD);
  rms_norm_backward_input(*c.stream, norm_, g.dhn_mD, s.h_mD, c.weight(norm_weight_), s.h_rstd_m, g.dh_mD, dy_mD);
  attention_.backward(c, x_mD, s.attention, g.dh_mD, g.attention, dx_mD, [&] {
    rms_norm_backward_weight(*c.stream, norm_, g.dhn_mD, s.h_mD, s.h_rstd_m, c.gradient(norm_weight_), c.token_cuts);
  });
  backward_weight_late(c, x_mD, s, g);
}

void Block::backward_weight_late(const Context& c, const Tensor& x_mD, const Saved& s, const Gradients& g) const {
  const Span span(c.stream->timeline(), Work::other, "block_backward_weight", layer_);
  attention_.backward_weight_late(c, x_mD, s.attention, g.attention);
}

}  // namespace fourmi
