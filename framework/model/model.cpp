#include "framework/model/model.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "framework/model/rope.h"
#include "kernels/ops/window.h"

namespace fourmi {

Model::Model(const ModelSection& section, const ParameterStore& store, std::int64_t num_positions, Arena& tables)
    : section_(section), store_(&store), embedding_(section, store), head_(section, store, "model.norm.weight") {
  for (std::int64_t l = 0; l < section.num_hidden_layers; ++l) blocks_.emplace_back(section, store, l);
  if (section.num_nextn_predict_layers > 0) mtp_ = std::make_unique<Mtp>(section, store);
  for (const Block& b : blocks_) {
    num_moe_layers_ += b.is_moe();
    if (const Gqa* gqa = b.attention().gqa()) window_ = std::max(window_, gqa->window());
  }
  if (mtp_) num_moe_layers_ += mtp_->block().is_moe();
  rotary_ = tables.allocate({num_positions, rotary_dim(section) / 2, 2}, store.types().accumulate, "rotary table");
  counts_LE_ = tables.allocate({num_moe_layers_, std::max<std::int64_t>(1, section.n_routed_experts)}, DType::i64,
                               "expert counts");
  if (!tables.measuring()) {
    fill_rotary_table(section, rotary_);
    std::fill_n(counts_LE_.as<std::int64_t>(), counts_LE_.num_elements(), 0);
  }
}

/// Columns of the widest sums that are on their way between the ranks of the tensor axis at once.
static std::int64_t widest_sum(const ModelSection& m, bool apart) {
  if (!has_latent_attention(m)) return (apart ? 3 : 1) * m.hidden_size;
  const std::int64_t source = m.q_lora_rank > 0 ? m.q_lora_rank : m.hidden_size;
  return std::max((apart ? 2 : 1) * m.hidden_size, source + m.kv_lora_rank + m.qk_rope_head_dim);
}

/// Columns of the widest weight among those that one product reads together.
std::int64_t Model::widest_part() const {
  std::int64_t widest = 0;
  const auto look = [&](const Block& b) {
    const Block::Sizes s = b.sizes(sizes_, store_->types());
    if (s.dense) widest = std::max(widest, s.dense->F);
    if (s.moe && s.moe->shared) widest = std::max(widest, s.moe->shared->F);
    if (s.attention.gqa) widest = std::max(widest, s.attention.gqa->H * s.attention.gqa->Q);
  };
  for (const Block& b : blocks_) look(b);
  if (mtp_) look(mtp_->block());
  return widest;
}

void Model::allocate(const BatchSizes& sizes, Use use, Arena& arena, Recompute recompute, Group* tensor) {
  use_ = use;
  sizes_ = sizes;
  recompute_ = recompute;
  rows_.reset();
  const ModelTypes& types = store_->types();
  const bool apart = use == Use::training && types.gradient == DType::fx128;  // mode layout (Leaves::apart)
  if (tensor || apart) {
    if (!tensor) alone_ = make_self_group("tensor");
    rows_.emplace(tensor ? *tensor : *alone_, sizes.rows, widest_sum(section_, apart), apart ? widest_part() : 0,
                  types.activation, types.accumulate, arena);
  }
  if (window_ > 0) window_begin_M_ = arena.allocate({sizes.rows}, DType::i32, "window");
  losses_.balance_S.clear();
  losses_.loss_M = arena.allocate({sizes.rows}, store_->types().accumulate, "loss");
  if (mtp_) losses_.loss_mtp_M = arena.allocate({sizes.rows}, store_->types().accumulate, "loss_mtp");
  use == Use::training ? allocate_training(arena) : allocate_evaluation(arena);
}

/// One struct for dense blocks and one for MoE blocks serve all layers in turn.
void Model::allocate_evaluation(Arena& arena) {
  const ModelTypes& types = store_->types();
  x_.assign(2, {});
  for (Tensor& x : x_)
    x = arena.allocate({sizes_.shard_rows(), section_.hidden_size}, types.activation, "block borders");
  saved_.assign(2, {});
  for (int moe = 0; moe < 2; ++moe) {
    auto b =
        std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& block) { return block.is_moe() == (moe == 1); });
    if (b != blocks_.end())
      allocate_fields(saved_[static_cast<std::size_t>(moe)], b->sizes(sizes_, types), arena, "block.");
  }
  allocate_fields(head_saved_, head_.sizes(sizes_, types), arena, "head.");
  if (!mtp_) return;
  const Mtp::Sizes mtp = mtp_->sizes(sizes_, types);
  allocate_fields(mtp_saved_, mtp, arena, "mtp.");
  allocate_fields(mtp_saved_.head, mtp.head, arena, "mtp.head.");
}

void Model::allocate_training(Arena& arena) {
  const ModelTypes& types = store_->types();
  const Shape rows{sizes_.shard_rows(), section_.hidden_size};
  const Head::Sizes head = head_.sizes(sizes_, types);
  std::optional<Mtp::Sizes> mtp;
  if (mtp_) mtp = mtp_->sizes(sizes_, types);
  std::vector<Block::Sizes> blocks;
  for (const Block& b : blocks_) blocks.push_back(b.sizes(sizes_, types));
  // Gradients between backward_input and backward_weight: dense and MoE blocks share what they have in common.
  Block::Sizes widest = blocks.front();
  for (const Block::Sizes& s : blocks) {
    if (s.moe) widest.moe = s.moe;
    if (s.dense) widest.dense = s.dense;
  }
  if (mtp && mtp->block.moe) widest.moe = mtp->block.moe;

  x_.assign(blocks_.size() + 1, {});
  for (Tensor& x : x_) x = arena.allocate(rows, types.activation, "block borders");
  if (sizes_.tensor > 1)
    all_dx_MD_ = arena.allocate({sizes_.rows, section_.hidden_size}, types.activation, "border gradients of all rows");
  da_MD_ = arena.allocate(rows, types.activation, "border gradients");
  db_MD_ = arena.allocate(rows, types.activation, "border gradients");

  saved_.assign(blocks_.size(), {});
  SharedFields layers;
  for (std::size_t l = 0; l < blocks_.size(); ++l) layers.reserve(recompute_, saved_[l], blocks[l]);
  if (mtp) layers.reserve(recompute_, mtp_saved_, *mtp);
  layers.allocate(arena, "shared by layers");
  for (std::size_t l = 0; l < blocks_.size(); ++l) layers.place(recompute_, saved_[l], blocks[l], arena, "block.");
  if (mtp) layers.place(recompute_, mtp_saved_, *mtp, arena, "mtp.");

  // Logits exist in forward only, gradients of a block's inside in backward only.
  SharedFields in_turn;
  in_turn.reserve(Recompute::none, head_saved_, head);
  in_turn.reserve(Recompute::full, block_gradients_, widest);
  in_turn.allocate(arena, "logits, then block gradients");
  in_turn.place(Recompute::none, head_saved_, head, arena, "head.");
  if (mtp) in_turn.place(Recompute::none, mtp_saved_.head, mtp->head, arena, "mtp.head.");
  in_turn.place(Recompute::full, block_gradients_, widest, arena, "block gradients.");
  if (mtp) allocate_fields(mtp_gradients_, *mtp, arena, "mtp gradients.");

  for (Block::Saved& s : saved_)
    if (s.moe.balance_S) losses_.balance_S.push_back(s.moe.balance_S);
  if (mtp && mtp_saved_.block.moe.balance_S) losses_.balance_S.push_back(mtp_saved_.block.moe.balance_S);
}

Context Model::context(const Stream& stream, const BatchTensors& b, const Context& options) const {
  Context c = options;
  c.stream = &stream;
  c.parameters = store_;
  c.sizes = sizes_;
  c.positions = b.positions_M;
  c.own_positions = rows_ ? rows_->mine(b.positions_M) : b.positions_M;
  c.key_begin = b.key_begin_M;
  c.key_end = b.key_end_M;
  c.rotary_table = rotary_;
  c.rows = rows_ ? &*rows_ : nullptr;
  if (window_ > 0) {
    window_key_begin(stream, window_, b.key_begin_M, b.key_end_M, window_begin_M_);
    c.window_begin = window_begin_M_;
  }
  return c;
}

Tensor Model::counts_row(std::int64_t i) const {
  return counts_LE_.rows(i, i + 1).view({section_.n_routed_experts});
}

Tensor Model::hidden() const {
  return use_ == Use::training ? x_.back() : x_[blocks_.size() % 2];
}

void Model::forward_blocks(const Context& c, const BatchTensors& b) {
  embedding_.forward(c, b.tokens_M, x_[0]);
  if (c.after_layer) (*c.after_layer)(-1, x_[0]);
  std::int64_t moe = 0;
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    const bool training = use_ == Use::training;
    const Tensor counts = training && blocks_[l].is_moe() ? counts_row(moe++) : Tensor{};
    const std::size_t from = training ? l : l % 2, to = training ? l + 1 : (l + 1) % 2;
    blocks_[l].forward(c, x_[from], saved(l), x_[to], counts);
    last_run_ = l;
    if (c.after_layer) (*c.after_layer)(static_cast<std::int64_t>(l), x_[to]);
  }
}

const BatchLosses& Model::forward(const Stream& stream, const BatchTensors& b, const Context& options) {
  const Context c = context(stream, b, options);
  forward_blocks(c, b);
  head_.forward(c, hidden(), b.targets_M, head_saved_, losses_.loss_M);
  if (mtp_) {
    mtp_->forward(c, hidden(), b.mtp_tokens_M, mtp_saved_, {});
    if (c.after_layer) (*c.after_layer)(section_.num_hidden_layers, mtp_saved_.y_mD);
    mtp_->head().forward(c, mtp_saved_.y_mD, b.mtp_targets_M, mtp_saved_.head, losses_.loss_mtp_M);
  }
  return losses_;
}

const BatchLosses& Model::forward_backward(const Stream& stream, const BatchTensors& b, const LossWeights& weights,
                                           const Context& options) {
  FOURMI_CHECK(use_ == Use::training, "backward of a model allocated for evaluation");
  Context c = context(stream, b, options);
  c.balance_weight = weights.balance;
  forward_blocks(c, b);
  head_.forward_backward(c, hidden(), b.targets_M, 1.0, head_saved_, losses_.loss_M);
  if (mtp_) {
    const bool moe = mtp_->block().is_moe();
    mtp_->forward(c, hidden(), b.mtp_tokens_M, mtp_saved_, moe ? counts_row(num_moe_layers_ - 1) : Tensor{});
    last_run_ = blocks_.size();
    if (c.after_layer) (*c.after_layer)(section_.num_hidden_layers, mtp_saved_.y_mD);
    mtp_->head().forward_backward(c, mtp_saved_.y_mD, b.mtp_targets_M, weights.mtp, mtp_saved_.head,
                                  losses_.loss_mtp_M);
  }

  if (options.before_backward) (*options.before_backward)();
  Tensor dy = da_MD_, dx = db_MD_;
  head_.backward(c, hidden(), head_saved_, dy);
  if (mtp_) mtp_->backward(c, hidden(), b.mtp_tokens_M, mtp_saved_, mtp_gradients_, block_gradients_, dy);
  for (std::size_t l = blocks_.size(); l-- > 0;) {
    backward_block(c, l, dy, dx);
    std::swap(dy, dx);
  }
  embedding_.backward(c, b.tokens_M, dy, all_dx_MD_);
  return losses_;
}

void Model::backward_block(const Context& c, std::size_t l, const Tensor& dy_MD, const Tensor& dx_MD) {
  // The layer that ran last still has its fields: so MTP, whose backward comes right after its forward, needs no
  // recomputation.
  if (recompute_ != Recompute::none && last_run_ != l) blocks_[l].recompute(c, x_[l], saved_[l], recompute_);
  last_run_ = l;
  blocks_[l].backward_input(c, x_[l], saved_[l], dy_MD, block_gradients_, dx_MD);
  blocks_[l].backward_weight(c, x_[l], saved_[l], dy_MD, block_gradients_);
}

std::vector<Slot> Model::router_biases() const {
  std::vector<Slot> slots;
  for (const Block& b : blocks_)
    if (b.is_moe() && b.moe()->bias()) slots.push_back(*b.moe()->bias());
  if (mtp_ && mtp_->block().is_moe() && mtp_->block().moe()->bias()) slots.push_back(*mtp_->block().moe()->bias());
  return slots;
}

void Model::set_zero_routed(bool zero) {
  for (Block& b : blocks_)
    if (b.moe()) b.moe()->set_zero_routed(zero);
  if (mtp_ && mtp_->block().moe()) mtp_->block().moe()->set_zero_routed(zero);
}

}  // namespace fourmi
