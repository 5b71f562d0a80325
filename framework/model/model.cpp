#include "framework/model/model.h"

#include <algorithm>
#include <utility>

#include "framework/model/rope.h"
#include "kernels/ops/window.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

ModelTables::ModelTables(const ModelSection& m, const ModelTypes& types, std::int64_t num_positions, Arena& arena) {
  std::int64_t moe_layers = 0;
  for (std::int64_t l = 0; l < m.num_hidden_layers + m.num_nextn_predict_layers; ++l) moe_layers += is_moe_layer(m, l);
  rotary = arena.allocate({num_positions, rotary_dim(m) / 2, 2}, types.accumulate, "rotary table");
  counts_LE = arena.allocate({moe_layers, std::max<std::int64_t>(1, m.n_routed_experts)}, DType::i64, "expert counts");
  if (arena.measuring()) return;
  const OnHost table(arena.runtime(), rotary, OnHost::Use::fill), counts(arena.runtime(), counts_LE, OnHost::Use::fill);
  fill_rotary_table(m, table.tensor());
  std::fill_n(counts.tensor().as<std::int64_t>(), counts_LE.num_elements(), 0);
  table.back(), counts.back();
}

Model::Model(const ModelSection& section, const ParameterStore& store, std::int64_t num_positions, Arena& tables)
    : Model(section, store, Stage::whole(section), ModelTables(section, store.types(), num_positions, tables)) {}

Model::Model(const ModelSection& section, const ParameterStore& store, const Stage& stage, const ModelTables& tables)
    : section_(section), store_(&store), stage_(stage), tables_(tables) {
  if (stage.first) embedding_.emplace(section, store);
  for (std::int64_t l = stage.begin; l < stage.end; ++l) blocks_.emplace_back(section, store, l);
  if (stage.last) head_ = std::make_unique<Head>(section, store, "model.norm.weight");
  if (stage.last && section.num_nextn_predict_layers > 0) mtp_ = std::make_unique<Mtp>(section, store);
  for (std::int64_t l = 0; l < stage.begin; ++l) first_moe_ += is_moe_layer(section, l);
  for (const Block& b : blocks_)
    if (const Gqa* gqa = b.attention().gqa()) window_ = std::max(window_, gqa->window());
}

Context Model::context(const Stream& stream, const StagePass& p, const Context& options,
                       const Tensor& window_begin_M) const {
  Context c = options;
  c.stream = &stream;
  c.parameters = store_;
  c.sizes = sizes_;
  const RowExchange* rows = workspace_->rows ? &*workspace_->rows : nullptr;
  c.positions = p.batch.positions_M;
  c.own_positions = rows ? rows->mine(p.batch.positions_M) : p.batch.positions_M;
  c.key_positions = p.batch.key_positions_N ? p.batch.key_positions_N : p.batch.positions_M;
  c.key_begin = p.batch.key_begin_M;
  c.key_end = p.batch.key_end_M;
  c.documents = p.batch.documents;
  c.rotary_table = tables_.rotary;
  c.rows = rows;
  c.sequences = workspace_->sequences ? &*workspace_->sequences : nullptr;
  c.experts = workspace_->experts ? &*workspace_->experts : nullptr;
  c.columns = workspace_->columns ? &*workspace_->columns : nullptr;
  c.column_memory = workspace_->column_memory ? &*workspace_->column_memory : nullptr;
  c.late_memory = workspace_->late_memory ? &*workspace_->late_memory : nullptr;
  c.balance_weight = p.weights.balance;
  c.micro_batch = p.micro_batch;
  if (window_ > 0) {
    window_key_begin(stream, window_, p.batch.key_begin_M, p.batch.key_end_M, window_begin_M);
    c.window_begin = window_begin_M;
  }
  return c;
}

Context Model::of_layer(const Context& c, std::size_t layer) const {
  Context of = c;
  if (is_promoted(c, layer)) of.layer_types = &store_->types_without_scales();
  return of;
}

/// Of a block, or of MTP as the layer after the last.
Tensor Model::counts_row(std::size_t layer) const {
  const auto moe_before = std::count_if(blocks_.begin(), blocks_.begin() + static_cast<std::ptrdiff_t>(layer),
                                        [](const Block& b) { return b.is_moe(); });
  const std::int64_t i = first_moe_ + moe_before;
  return tables_.counts_LE.rows(i, i + 1).view({section_.n_routed_experts});
}

Tensor Model::border(const StagePass& p, std::size_t layer) const {
  if (layer == 0 && !stage_.first) return p.x_MD;
  if (layer == blocks_.size() && !stage_.last) return p.y_MD;
  const std::vector<Tensor>& x = slots_[static_cast<std::size_t>(p.slot)].x;
  return x[use_ == Use::training ? layer : layer % 2];
}

void Model::begin_forward(const Context& c, const StagePass& p) {
  if (!stage_.first) return;
  embedding_->forward(c, p.batch.tokens_M, border(p, 0));
  if (c.after_layer) (*c.after_layer)(-1, border(p, 0));
}

void Model::forward_blocks(const Context& c, const StagePass& p, bool training) {
  begin_forward(c, p);
  Activations& a = activations(p);
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    const Tensor counts = training && blocks_[l].is_moe() ? counts_row(l) : Tensor{};
    c.need(blocks_[l].layer());
    blocks_[l].forward(of_layer(c, l), border(p, l), saved(c, a, l), border(p, l + 1), counts);
    hold(p, l);
    if (c.after_layer) (*c.after_layer)(blocks_[l].layer(), border(p, l + 1));
  }
}

const BatchLosses& Model::evaluate(const Stream& stream, const StagePass& p, const Context& options) {
  const Context c = context(stream, p, options);
  Activations& a = activations(p);
  forward_blocks(c, p, false);
  if (!stage_.last) return a.losses;
  const Tensor hidden = border(p, blocks_.size());
  head_->forward(c, hidden, p.batch.targets_M, a.head, a.losses.loss_M);
  if (mtp_) {
    Mtp::Saved& mtp = saved_mtp(c, a);
    c.need(mtp_->block().layer());
    mtp_->forward(of_layer(c, blocks_.size()), hidden, p.batch.mtp_tokens_M, mtp, {});
    hold(p, blocks_.size());
    if (c.after_layer) (*c.after_layer)(section_.num_hidden_layers, mtp.y_mD);
    mtp_->head().forward(c, mtp.y_mD, p.batch.mtp_targets_M, mtp.head, a.losses.loss_mtp_M);
  }
  return a.losses;
}

const BatchLosses& Model::forward(const Stream& stream, const StagePass& p, const Context& options) {
  FOURMI_CHECK(use_ == Use::training, "training of a model allocated for evaluation");
  const Context c = context(stream, p, options);
  forward_blocks(c, p, true);
  return forward_ends(c, p);
}

/// Head and MTP, which form the head's gradient too.
const BatchLosses& Model::forward_ends(const Context& c, const StagePass& p) {
  Activations& a = activations(p);
  if (!stage_.last) return a.losses;
  const Tensor hidden = border(p, blocks_.size());
  head_->forward_backward(c, hidden, p.batch.targets_M, 1.0, a.head, a.losses.loss_M);
  if (mtp_) {
    const Tensor counts = mtp_->block().is_moe() ? counts_row(blocks_.size()) : Tensor{};
    Mtp::Saved& mtp = saved_mtp(c, a);
    c.need(mtp_->block().layer());
    mtp_->forward(of_layer(c, blocks_.size()), hidden, p.batch.mtp_tokens_M, mtp, counts);
    hold(p, blocks_.size());
    if (c.after_layer) (*c.after_layer)(section_.num_hidden_layers, mtp.y_mD);
    mtp_->head().forward_backward(c, mtp.y_mD, p.batch.mtp_targets_M, p.weights.mtp, mtp.head, a.losses.loss_mtp_M);
  }
  return a.losses;
}

/// Before a layer's backward: its weights are there, and what the workspace no longer holds of it is made again.
void Model::restore(const Context& c, const StagePass& p, std::size_t l) {
  c.need(layer_number(l));
  const bool held = is_held(p, l);
  hold(p, l);  // backward makes some of it again in any mode
  if (mode(c, l) == Recompute::none || held) return;
  Activations& a = activations(p);
  if (l < blocks_.size())
    blocks_[l].recompute(of_layer(c, l), border(p, l), saved(c, a, l), mode(c, l));
  else
    mtp_->recompute(of_layer(c, l), border(p, l), p.batch.mtp_tokens_M, saved_mtp(c, a), mode(c, l));
}

/// Of head and MTP: the gradient of the last block's output; else what the next stage gave.
Tensor Model::backward_ends(const Context& c, const StagePass& p, const Tensor& dy_MD) {
  if (!stage_.last) return p.dy_MD;
  Activations& a = activations(p);
  const Tensor hidden = border(p, blocks_.size());
  head_->backward(c, hidden, a.head, dy_MD);
  if (mtp_) {
    const std::size_t l = blocks_.size();
    restore(c, p, l);
    mtp_->backward(of_layer(c, l), hidden, p.batch.mtp_tokens_M, saved_mtp(c, a),
                   is_promoted(c, l) ? promoted_mtp_gradients_ : mtp_gradients_, block_gradients(c, l), dy_MD);
    c.reduce(mtp_->block().layer());
  }
  return dy_MD;
}

void Model::backward(const Stream& stream, const StagePass& p, const Context& options) {
  const Context c = context(stream, p, options);
  Activations& a = activations(p);
  Tensor free = workspace_->da_MD, other = workspace_->db_MD;
  Tensor dy = backward_ends(c, p, free);
  if (stage_.last) std::swap(free, other);
  // The end of a layer's backward, put off until the next one's rows travel, where nothing is made again in between.
  std::size_t late = blocks_.size();
  const auto finish = [&] {
    if (late == blocks_.size()) return;
    blocks_[late].backward_weight_late(of_layer(c, late), border(p, late), saved(c, a, late), block_gradients(c, late));
    c.reduce(blocks_[late].layer());
    late = blocks_.size();
  };
  for (std::size_t l = blocks_.size(); l-- > 0;) {
    const Tensor dx = l == 0 && !stage_.first ? p.dx_MD : free;
    if (mode(c, l) != Recompute::none || (late < blocks_.size() && mode(c, late) != Recompute::none)) finish();
    restore(c, p, l);
    blocks_[l].backward(of_layer(c, l), border(p, l), saved(c, a, l), dy, block_gradients(c, l), dx, finish);
    late = l;
    dy = dx;
    std::swap(free, other);
  }
  if (stage_.first)
    embedding_->backward(c, p.batch.tokens_M, dy, workspace_->all_dx_MD, finish);
  else
    finish();
}

void Model::backward_input(const Stream& stream, const StagePass& p, const Context& options) {
  Context c = context(stream, p, options);
  c.halves_apart = true;
  Activations& a = activations(p);
  Kept& k = kept_[static_cast<std::size_t>(p.kept)];
  Tensor dy = backward_ends(c, p, k.dy.back());
  for (std::size_t l = blocks_.size(); l-- > 0;) {
    const Tensor dx = l > 0 ? k.dy[l - 1] : stage_.first ? workspace_->da_MD : p.dx_MD;
    restore(c, p, l);
    blocks_[l].backward_input(of_layer(c, l), border(p, l), saved(c, a, l), dy, kept_gradients(k, l, is_promoted(c, l)),
                              dx);
    dy = dx;
  }
  if (stage_.first) embedding_->backward(c, p.batch.tokens_M, dy, workspace_->all_dx_MD);
}

void Model::backward_weight(const Stream& stream, const StagePass& p, const Context& options) {
  Context c = context(stream, p, options);
  c.halves_apart = true;
  Activations& a = activations(p);
  Kept& k = kept_[static_cast<std::size_t>(p.kept)];
  for (std::size_t l = blocks_.size(); l-- > 0;) {
    restore(c, p, l);
    const Tensor dy = l + 1 == blocks_.size() && !stage_.last ? p.dy_MD : k.dy[l];
    blocks_[l].backward_weight(of_layer(c, l), border(p, l), saved(c, a, l), dy,
                               kept_gradients(k, l, is_promoted(c, l)));
    c.reduce(blocks_[l].layer());
  }
}

const BatchLosses& Model::forward_backward(const Stream& stream, const BatchTensors& batch, const LossWeights& weights,
                                           const Context& options) {
  const StagePass p{.batch = batch, .weights = weights};
  const BatchLosses& losses = forward(stream, p, options);
  backward(stream, p, options);
  return losses;
}

void Model::set_zero_routed(bool zero) {
  for (Block& b : blocks_)
    if (b.moe()) b.moe()->set_zero_routed(zero);
  if (mtp_ && mtp_->block().moe()) mtp_->block().moe()->set_zero_routed(zero);
}

}  // namespace fourmi
