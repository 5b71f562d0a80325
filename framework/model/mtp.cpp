#include "framework/model/mtp.h"

#include "framework/model/products.h"

namespace fourmi {

Mtp::Mtp(const ModelSection& m, const ParameterStore& store)
    : D_(m.hidden_size),
      embedding_(m, store),
      enorm_(store.slot(layer_prefix(m.num_hidden_layers) + "enorm.weight")),
      hnorm_(store.slot(layer_prefix(m.num_hidden_layers) + "hnorm.weight")),
      eh_proj_(store.slot(layer_prefix(m.num_hidden_layers) + "eh_proj.weight")),
      // The released weights expect the embedding first, then the hidden state.
      e_norm_{.epsilon = m.rms_norm_eps, .x_column = 0, .y_column = 0},
      h_norm_{.epsilon = m.rms_norm_eps, .x_column = 0, .y_column = m.hidden_size},
      block_(m, store, m.num_hidden_layers),
      head_(m, store, layer_prefix(m.num_hidden_layers) + "shared_head.norm.weight") {}

Mtp::Sizes Mtp::sizes(const BatchSizes& batch, const ModelTypes& types) const {
  return {batch, types, D_, block_.sizes(batch, types), head_.sizes(batch, types)};
}

/// Normalised embedding and hidden state, side by side.
void Mtp::join(const Context& c, const Tensor& hidden_mD, const Tensor& tokens_M, Saved& s) const {
  const Stream& stream = *c.stream;
  embedding_.forward(c, tokens_M, s.embedding_mD);
  rms_norm_forward(stream, e_norm_, s.embedding_mD, c.weight(enorm_), s.joined_m2D, s.e_rstd_m);
  rms_norm_forward(stream, h_norm_, hidden_mD, c.weight(hnorm_), s.joined_m2D, s.h_rstd_m);
  activation_operand(c, s.joined_m2D, s.operand_m2D, eh_proj_);
}

void Mtp::forward(const Context& c, const Tensor& hidden_mD, const Tensor& tokens_M, Saved& s,
                  const Tensor& counts_E) const {
  const Span span(c.stream->timeline(), Work::other, "mtp_forward", block_.layer());
  join(c, hidden_mD, tokens_M, s);
  linear_forward(*c.stream, operand(s), c.matrix(eh_proj_), s.x_mD);
  block_.forward(c, s.x_mD, s.block, s.y_mD, counts_E);
}

void Mtp::recompute(const Context& c, const Tensor& hidden_mD, const Tensor& tokens_M, Saved& s, Recompute mode) const {
  // The head's backward reads the block's output, which `full` does not keep.
  if (mode == Recompute::full) return forward(c, hidden_mD, tokens_M, s, {});
  const Span span(c.stream->timeline(), Work::other, "mtp_recompute", block_.layer());
  join(c, hidden_mD, tokens_M, s);
  block_.recompute(c, s.x_mD, s.block, mode);
}

void Mtp::backward(const Context& c, const Tensor& hidden_mD, const Tensor& tokens_M, Saved& s, Gradients& g,
                   Block::Gradients& block_gradients, const Tensor& dhidden_mD) const {
  const Stream& stream = *c.stream;
  const Span span(stream.timeline(), Work::other, "mtp_backward", block_.layer());
  head_.backward(c, s.y_mD, s.head, g.dy_mD);
  block_.backward(c, s.x_mD, s.block, g.dy_mD, block_gradients, g.dx_mD);
  block_.backward_weight_late(c, s.x_mD, s.block, block_gradients);
  const Tensor dx_mD = gradient_operand(c, g.dx_mD, g.operand_mD, eh_proj_);
  input_gradient(c, dx_mD, eh_proj_, g.djoined_m2D);
  weight_gradient(c, dx_mD, operand(s), eh_proj_);
  rms_norm_backward_input(stream, e_norm_, g.djoined_m2D, s.embedding_mD, c.weight(enorm_), s.e_rstd_m,
                          g.dembedding_mD);
  rms_norm_backward_weight(stream, e_norm_, g.djoined_m2D, s.embedding_mD, s.e_rstd_m, c.gradient(enorm_),
                           c.token_cuts);
  embedding_.backward(c, tokens_M, g.dembedding_mD, g.all_dembedding_MD);
  rms_norm_backward_input(stream, h_norm_, g.djoined_m2D, hidden_mD, c.weight(hnorm_), s.h_rstd_m, dhidden_mD,
                          dhidden_mD);
  rms_norm_backward_weight(stream, h_norm_, g.djoined_m2D, hidden_mD, s.h_rstd_m, c.gradient(hnorm_), c.token_cuts);
}

}  // namespace fourmi
