#include "framework/model/mtp.h"

#include "kernels/ops/embedding.h"

namespace fourmi {

Mtp::Mtp(const ModelSection& m, const ParameterStore& store)
    : D_(m.hidden_size),
      embedding_(store.slot("model.embed_tokens.weight")),
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

void Mtp::forward(const Context& c, const Tensor& hidden_MD, const Tensor& tokens_M, Saved& s,
                  const Tensor& counts_E) const {
  const Stream& stream = *c.stream;
  const Span span(stream.timeline(), Work::other, "mtp_forward", block_.layer());
  embedding_forward(stream, tokens_M, c.weight(embedding_), s.embedding_MD);
  rms_norm_forward(stream, e_norm_, s.embedding_MD, c.weight(enorm_), s.joined_M2D, s.e_rstd_M);
  rms_norm_forward(stream, h_norm_, hidden_MD, c.weight(hnorm_), s.joined_M2D, s.h_rstd_M);
  linear_forward(stream, s.joined_M2D, c.weight(eh_proj_), s.x_MD);
  block_.forward(c, s.x_MD, s.block, s.y_MD, counts_E);
}

void Mtp::backward(const Context& c, const Tensor& hidden_MD, const Tensor& tokens_M, Saved& s, Gradients& g,
                   Block::Gradients& block_gradients, const Tensor& dhidden_MD) const {
  const Stream& stream = *c.stream;
  const Span span(stream.timeline(), Work::other, "mtp_backward", block_.layer());
  head_.backward(c, s.y_MD, s.head, g.dy_MD);
  block_.backward_input(c, s.x_MD, s.block, g.dy_MD, block_gradients, g.dx_MD);
  block_.backward_weight(c, s.x_MD, s.block, g.dy_MD, block_gradients);
  linear_backward_input(stream, g.dx_MD, c.weight(eh_proj_), g.djoined_M2D);
  linear_backward_weight(stream, g.dx_MD, s.joined_M2D, c.gradient(eh_proj_), c.weight_cuts);
  rms_norm_backward_input(stream, e_norm_, g.djoined_M2D, s.embedding_MD, c.weight(enorm_), s.e_rstd_M,
                          g.dembedding_MD);
  rms_norm_backward_weight(stream, e_norm_, g.djoined_M2D, s.embedding_MD, s.e_rstd_M, c.gradient(enorm_),
                           c.token_cuts);
  embedding_backward(stream, tokens_M, g.dembedding_MD, c.gradient(embedding_), c.token_cuts);
  rms_norm_backward_input(stream, h_norm_, g.djoined_M2D, hidden_MD, c.weight(hnorm_), s.h_rstd_M, dhidden_MD,
                          dhidden_MD);
  rms_norm_backward_weight(stream, h_norm_, g.djoined_M2D, hidden_MD, s.h_rstd_M, c.gradient(hnorm_), c.token_cuts);
}

}  // namespace fourmi
