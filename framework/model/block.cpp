#include "framework/model/block.h"

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
    dense_.emplace(store, layer_prefix(layer) + "mlp.", m.hidden_size, m.intermediate_size);
}

Block::Sizes Block::sizes(const BatchSizes& batch, const ModelTypes& types) const {
  Sizes s{batch, types, D_, attention_.sizes(batch, types), std::nullopt, std::nullopt};
  if (dense_) s.dense = dense_->sizes(batch, types);
  if (moe_) s.moe = moe_->sizes(batch, types);
  return s;
}

void Block::feed_forward(const Context& c, const Tensor& h_MD, Saved& s, const Tensor& y_MD,
                         const Tensor& counts_E) const {
  rms_norm_forward(*c.stream, norm_, h_MD, c.weight(norm_weight_), s.hn_MD, s.h_rstd_M);
  if (moe_)
    moe_->forward(c, s.hn_MD, s.moe, y_MD, h_MD, counts_E);
  else
    dense_->forward(c, s.hn_MD, s.dense, y_MD, h_MD);
}

void Block::forward(const Context& c, const Tensor& x_MD, Saved& s, const Tensor& y_MD, const Tensor& counts_E) const {
  const Span span(c.stream->timeline(), Work::other, "block_forward", layer_);
  attention_.forward(c, x_MD, s.attention, s.h_MD);
  feed_forward(c, s.h_MD, s, y_MD, counts_E);
}

void Block::recompute(const Context& c, const Tensor& x_MD, Saved& s, Recompute mode) const {
  const Span span(c.stream->timeline(), Work::other, "block_recompute", layer_);
  if (mode == Recompute::full)
    attention_.forward(c, x_MD, s.attention, s.h_MD);
  else
    attention_.recompute(c, x_MD, s.attention);
  rms_norm_forward(*c.stream, norm_, s.h_MD, c.weight(norm_weight_), s.hn_MD, s.h_rstd_M);
  if (moe_)
    moe_->recompute(c, s.hn_MD, s.moe, mode);
  else
    dense_->recompute(c, s.hn_MD, s.dense, mode);
}

void Block::backward_input(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD, Gradients& g,
                           const Tensor& dx_MD) const {
  const Span span(c.stream->timeline(), Work::other, "block_backward_input", layer_);
  if (moe_)
    moe_->backward_input(c, s.moe, dy_MD, g.moe, g.dhn_MD);
  else
    dense_->backward_input(c, s.dense, dy_MD, g.dense, g.dhn_MD);
  rms_norm_backward_input(*c.stream, norm_, g.dhn_MD, s.h_MD, c.weight(norm_weight_), s.h_rstd_M, g.dh_MD, dy_MD);
  attention_.backward_input(c, x_MD, s.attention, g.dh_MD, g.attention, dx_MD);
}

void Block::backward_weight(const Context& c, const Tensor& x_MD, const Saved& s, const Tensor& dy_MD,
                            const Gradients& g) const {
  const Span span(c.stream->timeline(), Work::other, "block_backward_weight", layer_);
  if (moe_)
    moe_->backward_weight(c, s.hn_MD, s.moe, dy_MD, g.moe);
  else
    dense_->backward_weight(c, s.hn_MD, s.dense, dy_MD, g.dense);
  rms_norm_backward_weight(*c.stream, norm_, g.dhn_MD, s.h_MD, s.h_rstd_M, c.gradient(norm_weight_), c.token_cuts);
  attention_.backward_weight(c, x_MD, s.attention, g.dh_MD, g.attention);
}

}  // namespace fourmi
