#include "framework/model/pair.h"

#include <utility>

namespace fourmi {

PairRunner::PairRunner(const Stream& stream, Half forward, Half backward, const Context& options)
    : forward_(forward),
      backward_(backward),
      backward_context_(backward.model.context(stream, backward.pass, options)) {
  Workspace* const workspace = forward.model.workspace_;
  const bool apart = &forward.model != &backward.model || forward.pass.slot != backward.pass.slot;
  FOURMI_CHECK(apart && workspace == backward.model.workspace_ && workspace->beside,
               "a pair without memory for both halves");
  forward_context_ = forward.model.context(stream, forward.pass, options, workspace->beside->window_begin_M);
  if (forward_context_.experts) forward_context_.experts = &*workspace->beside->experts;
}

const BatchLosses& PairRunner::run() {
  Model &f = forward_.model, &b = backward_.model;
  Workspace& workspace = *f.workspace_;
  move_forward(workspace.layers.memory(), workspace.beside->layers);
  f.begin_forward(forward_context_, forward_.pass);
  dx_ = workspace.da_MD, other_ = workspace.db_MD;
  dy_ = b.backward_ends(backward_context_, backward_.pass, dx_);
  if (b.stage_.last) std::swap(dx_, other_);
  visit_pair(f.blocks_.size(), b.blocks_.size(), [&](PairPhase phase, std::size_t layer) {
    is_forward(phase) ? forward(phase, layer) : backward(phase, layer);
  });
  move_forward(workspace.beside->layers, workspace.layers.memory());
  // Head and multi-token prediction use what backward's blocks have left, and add to gradients before backward's
  // embedding does.
  const BatchLosses& losses = f.forward_ends(forward_context_, forward_.pass);
  if (b.stage_.first)
    b.embedding_->backward(backward_context_, backward_.pass.batch.tokens_M, dy_, workspace.all_dx_MD);
  return losses;
}

/// What forward's blocks do not keep, from one memory that layers share to another.
void PairRunner::move_forward(const Tensor& from, const Tensor& to) {
  Model& f = forward_.model;
  Model::Activations& a = f.activations(forward_.pass);
  for (std::size_t l = 0; l < f.blocks_.size(); ++l) {
    move_fields(a.blocks[l], f.block_sizes_[l], from, to);
    if (f.promotable_) move_fields(a.promoted[l], f.promoted_sizes_[l], from, to);
  }
}

void PairRunner::forward(PairPhase phase, std::size_t l) {
  Model& m = forward_.model;
  const StagePass& p = forward_.pass;
  const Block& block = m.blocks_[l];
  const Span span(forward_context_.stream->timeline(), Work::other, name_of(phase), block.layer());
  const Context c = m.of_layer(forward_context_, l);
  Block::Saved& s = m.saved(forward_context_, m.activations(p), l);
  switch (phase) {
    case PairPhase::attention:
      return block.begin_forward(c, m.border(p, l), s, block.is_moe() ? m.counts_row(l) : Tensor{});
    case PairPhase::rows_leave:
      return block.send_forward(c, s, m.border(p, l + 1));
    case PairPhase::experts:
      return block.compute_forward(c, s);
    default:
      block.finish_forward(c, s, m.border(p, l + 1));
      if (c.after_layer) (*c.after_layer)(block.layer(), m.border(p, l + 1));
  }
}

void PairRunner::backward(PairPhase phase, std::size_t l) {
  Model& m = backward_.model;
  const StagePass& p = backward_.pass;
  const Block& block = m.blocks_[l];
  const Span span(backward_context_.stream->timeline(), Work::other, name_of(phase), block.layer());
  if (phase == PairPhase::dy_leaves) m.restore(backward_context_, p, l);
  const Context c = m.of_layer(backward_context_, l);
  const Block::Saved& s = m.saved(backward_context_, m.activations(p), l);
  Block::Gradients& g = m.block_gradients(backward_context_, l);
  switch (phase) {
    case PairPhase::dy_leaves:
      return block.begin_backward(c, s, dy_, g);
    case PairPhase::experts_backward:
      return block.compute_backward(c, s, dy_, g);
    case PairPhase::weights:
      return block.backward_weight_feed_forward(c, s, dy_, g);
    case PairPhase::dx_leaves:
      return block.send_backward(c, s, g);
    default:
      break;
  }
  const Tensor dx = l == 0 && !m.stage_.first ? p.dx_MD : dx_;
  block.finish_backward(c, m.border(p, l), s, dy_, g, dx);
  c.reduce(block.layer());
  dy_ = dx;
  std::swap(dx_, other_);
}

}  // namespace fourmi
