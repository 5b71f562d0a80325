// What a model keeps of the micro-batches in flight. Everything is taken from arenas, in an order that depends on the
// recipe alone, so that measuring tells a run's memory.
#include <algorithm>
#include <optional>

#include "framework/model/both_fields.h"
#include "framework/model/model.h"

namespace fourmi {

namespace {
/// Columns of the widest sums that are on their way between the ranks of the tensor axis at once.
std::int64_t widest_sum(const ModelSection& m, bool apart) {
  if (!has_latent_attention(m)) return (apart ? 3 : 1) * m.hidden_size;
  const std::int64_t source = m.q_lora_rank > 0 ? m.q_lora_rank : m.hidden_size;
  return std::max((apart ? 2 : 1) * m.hidden_size, source + m.kv_lora_rank + m.qk_rope_head_dim);
}

/// Columns of a block's widest weight among those that one product reads together.
std::int64_t widest_part(const Block::Sizes& s) {
  std::int64_t widest = 0;
  if (s.dense) widest = std::max(widest, s.dense->F);
  if (s.moe && s.moe->shared) widest = std::max(widest, s.moe->shared->F);
  if (s.attention.gqa) widest = std::max(widest, s.attention.gqa->H * s.attention.gqa->Q);
  return widest;
}

/// Of the weight gradients of a block: rows, columns of both operands.
void add_columns(const Block::Sizes& s, ColumnMemory::Largest& largest) {
  const BatchSizes& b = s.batch;
  const std::int64_t M = b.rows, m = b.shard_rows(), cut = b.tokens_per_sequence / 16;
  const auto add = [&](std::int64_t rows, std::int64_t columns) {
    largest.add(rows, columns, b.experts.cut ? rows / cut + 1 : 1);
  };
  const auto mlp = [&](std::int64_t F) { add(M, s.D + F), add(M, 2 * F + s.D); };
  if (const auto& a = s.attention.mla) {
    add(M, s.D + a->H * a->V), add(M, a->kv_rank + a->H * (a->nope + a->V));
    add(M, a->source() + a->H * a->Q()), add(m, s.D + a->A());
  }
  if (const auto& a = s.attention.gqa) add(M, s.D + a->H * a->Q), add(M, s.D + a->A());
  if (s.dense) mlp(s.dense->F);
  if (!s.moe) return;
  if (s.moe->shared) mlp(s.moe->shared->F);
  const Experts::Sizes& e = s.moe->experts;
  // A run is of one expert and, where sums are cut, of one block of the tokens of all ranks that share experts.
  const std::int64_t tokens = b.experts.size * b.experts.tensor * m,
                     runs = b.experts.cut ? std::min(e.A(), e.E * (tokens / cut + 1)) : e.E;
  for (std::int64_t columns : {s.D + e.F, 2 * e.F + s.D}) largest.add(e.A(), columns, runs);
}
/// Elements of the largest operand that another operation than its own quantiser makes.
std::int64_t largest_late(const Block::Sizes& s) {
  const std::int64_t M = s.batch.rows, m = s.batch.shard_rows();
  std::int64_t largest = m * s.D;
  if (const auto& a = s.attention.mla) largest = std::max({largest, m * a->q_rank, m * a->kv_rank});
  if (s.dense) largest = std::max(largest, M * 2 * s.dense->F);
  if (!s.moe) return largest;
  if (s.moe->shared) largest = std::max(largest, M * 2 * s.moe->shared->F);
  const Experts::Sizes& e = s.moe->experts;
  return std::max({largest, e.A() * 2 * e.F, e.R() * s.D});
}
}  // namespace

void Workspace::allocate_exchange(const ModelSection& m, const BatchSizes& sizes, const ModelTypes& types, bool apart,
                                  const LayerGroups& groups, Arena& arena) {
  if (sizes.context > 1) sequences.emplace(groups.context, sizes.num_sequences());
  if (!sizes.experts.alone())
    experts.emplace(groups.expert, sizes.experts, sizes.experts.options(m, sizes.shard_rows(), types.accumulate), arena,
                    groups.windows ? *groups.windows : arena);
  if (sizes.experts.tensor > 1)
    columns.emplace(groups.expert_tensor, sizes.experts.tensor,
                    sizes.experts.most_rows(m, sizes.shard_rows(), types.accumulate), m.hidden_size, apart ? 2 : 1,
                    types.accumulate, arena);
  if (sizes.tensor == 1 && !apart) return;
  rows.emplace(groups.tensor, static_cast<int>(sizes.tensor), sizes.rows, widest_sum(m, apart), apart ? widest_part : 0,
               types.activation, types.accumulate, arena);
}

void Workspace::allocate(const ModelSection& m, const BatchSizes& sizes, const ModelTypes& types,
                         const LayerGroups& groups, Arena& arena, bool pairs) {
  const bool apart = types.gradient == DType::fx128;  // mode layout (Leaves::apart)
  allocate_exchange(m, sizes, types, apart, groups, arena);
  if (types.scaled()) column_memory.emplace(largest_columns, arena);
  if (types.scales_late()) late_memory.emplace(largest_late, types.activation, arena);
  const Shape border{sizes.shard_rows(), m.hidden_size};
  if (sizes.tensor > 1)
    all_dx_MD = arena.allocate({sizes.rows, m.hidden_size}, types.activation, "border gradients of all rows");
  da_MD = arena.allocate(border, types.activation, "border gradients");
  db_MD = arena.allocate(border, types.activation, "border gradients");
  layers.allocate(arena, "shared by layers");
  in_turn.allocate(arena, "logits, then block gradients");
  if (!pairs) return;
  beside.emplace();
  beside->layers = arena.allocate(layers.memory().shape, layers.memory().dtype, "shared by layers of a pair's forward");
  if (has_windows) beside->window_begin_M = arena.allocate({sizes.rows}, DType::i32, "window of a pair's forward");
  if (experts)
    beside->experts.emplace(*experts, sizes.experts, sizes.experts.options(m, sizes.shard_rows(), types.accumulate),
                            arena);
}

void Model::allocate(const BatchSizes& sizes, Use use, Arena& arena, Recompute recompute, const LayerGroups& groups) {
  use_ = use;
  own_workspace_ = std::make_unique<Workspace>();
  if (use == Use::training) {
    reserve(sizes, recompute, *own_workspace_);
    own_workspace_->allocate(section_, sizes, store_->types(), groups, arena);
    place(1, 0, arena);
    return;
  }
  workspace_ = own_workspace_.get();
  workspace_->allocate_exchange(section_, sizes, store_->types(), false, groups, arena);
  if (store_->types().scales_late()) {
    for (const Block& b : blocks_)
      workspace_->largest_late = std::max(workspace_->largest_late, largest_late(b.sizes(sizes, store_->types())));
    workspace_->late_memory.emplace(workspace_->largest_late, store_->types().activation, arena);
  }
  sizes_ = sizes;
  allocate_evaluation(arena);
}

/// One struct for dense blocks and one for MoE blocks serve all layers in turn.
void Model::allocate_evaluation(Arena& arena) {
  const ModelTypes& types = store_->types();
  slots_.assign(1, {});
  Activations& a = slots_[0];
  if (window_ > 0) window_begin_M_ = arena.allocate({sizes_.rows}, DType::i32, "window");
  a.x.assign(2, {});
  for (Tensor& x : a.x)
    x = arena.allocate({sizes_.shard_rows(), section_.hidden_size}, types.activation, "block borders");
  a.blocks.assign(2, {});
  for (int moe = 0; moe < 2; ++moe) {
    auto b =
        std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& block) { return block.is_moe() == (moe == 1); });
    if (b != blocks_.end())
      allocate_fields(a.blocks[static_cast<std::size_t>(moe)], b->sizes(sizes_, types), arena, "block.");
  }
  if (!head_) return;
  a.losses.loss_M = arena.allocate({sizes_.rows}, types.accumulate, "loss");
  allocate_fields(a.head, head_->sizes(sizes_, types), arena, "head.");
  if (!mtp_) return;
  const Mtp::Sizes mtp = mtp_->sizes(sizes_, types);
  a.losses.loss_mtp_M = arena.allocate({sizes_.rows}, types.accumulate, "loss_mtp");
  allocate_fields(a.mtp, mtp, arena, "mtp.");
  allocate_fields(a.mtp.head, mtp.head, arena, "mtp.head.");
}

namespace {
void widen(Block::Sizes& widest, const Block::Sizes& s) {
  if (s.moe) widest.moe = s.moe;
  if (s.dense) widest.dense = s.dense;
}
}  // namespace

void Model::reserve(const BatchSizes& sizes, Recompute recompute, Workspace& workspace, bool promotable) {
  use_ = Use::training;
  sizes_ = sizes;
  recompute_ = recompute;
  workspace_ = &workspace;
  const ModelTypes &types = store_->types(), &promoted = store_->types_without_scales();
  promotable_ = promotable && types.scaled();
  workspace.has_windows |= window_ > 0;
  block_sizes_.clear(), promoted_sizes_.clear();
  for (const Block& b : blocks_) {
    block_sizes_.push_back(b.sizes(sizes, types));
    promoted_sizes_.push_back(b.sizes(sizes, promoted));
  }
  widest_ = block_sizes_.front(), widest_promoted_ = promoted_sizes_.front();
  for (const Block::Sizes& s : promoted_sizes_) widen(widest_promoted_, s);
  workspace.largest_columns.group_rows = types.group();
  for (const Block::Sizes& s : block_sizes_) {
    widen(widest_, s);
    workspace.widest_part = std::max(workspace.widest_part, widest_part(s));
    workspace.largest_late = std::max(workspace.largest_late, largest_late(s));
    add_columns(s, workspace.largest_columns);
  }
  Activations a;  // only its lists are read
  a.blocks.resize(blocks_.size());
  if (head_) workspace.in_turn.reserve(Recompute::none, a.head, head_->sizes(sizes, types));
  if (mtp_) {
    const Mtp::Sizes mtp = mtp_->sizes(sizes, types);
    workspace.widest_part = std::max(workspace.widest_part, widest_part(mtp.block));
    workspace.largest_late = std::max(workspace.largest_late, largest_late(mtp.block));
    add_columns(mtp.block, workspace.largest_columns);
    workspace.largest_columns.add(sizes.shard_rows(), 3 * section_.hidden_size,  // of eh_proj
                                  sizes.experts.cut ? sizes.shard_rows() / (sizes.tokens_per_sequence / 16) + 1 : 1);
    const Mtp::Sizes promoted_mtp = mtp_->sizes(sizes, promoted);
    widen(widest_, mtp.block), widen(widest_promoted_, promoted_mtp.block);
    if (promotable_)
      BothFields{recompute, a.mtp, mtp, Recompute::full, a.promoted_mtp, promoted_mtp}.reserve(workspace.layers);
    else
      workspace.layers.reserve(recompute, a.mtp, mtp);
    workspace.in_turn.reserve(Recompute::none, a.mtp.head, mtp.head);
  }
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    Block::Saved second;
    if (promotable_)
      BothFields{recompute, a.blocks[l], block_sizes_[l], Recompute::full, second, promoted_sizes_[l]}.reserve(
          workspace.layers);
    else
      workspace.layers.reserve(recompute, a.blocks[l], block_sizes_[l]);
  }
  workspace.in_turn.reserve(Recompute::full, block_gradients_, widest_);
  if (promotable_) workspace.in_turn.reserve(Recompute::full, promoted_gradients_, widest_promoted_);
}

void Model::place(int slots, int kept, Arena& arena) {
  const ModelTypes& types = store_->types();
  const Shape rows{sizes_.shard_rows(), section_.hidden_size};
  if (window_ > 0) window_begin_M_ = arena.allocate({sizes_.rows}, DType::i32, "window");
  slots_.assign(static_cast<std::size_t>(slots), {});
  for (Activations& a : slots_) place_activations(a, arena);
  workspace_->in_turn.place(Recompute::full, block_gradients_, widest_, arena, "block gradients.");
  if (mtp_) allocate_fields(mtp_gradients_, mtp_->sizes(sizes_, types), arena, "mtp gradients.");
  if (promotable_) {
    workspace_->in_turn.place(Recompute::full, promoted_gradients_, widest_promoted_, arena, "block gradients.");
    promoted_mtp_gradients_ = mtp_gradients_;
    promoted_mtp_gradients_.operand_mD = {};
  }

  kept_.assign(static_cast<std::size_t>(kept), {});
  for (Kept& k : kept_) {
    k.blocks.assign(blocks_.size(), {});
    k.promoted.assign(blocks_.size(), {});
    k.dy.assign(blocks_.size(), {});
    for (std::size_t l = 0; l < blocks_.size(); ++l) {
      if (promotable_)
        BothFields{Recompute::none, k.blocks[l], block_sizes_[l], Recompute::none, k.promoted[l], promoted_sizes_[l]}
            .place(workspace_->in_turn, arena, "kept gradients.");
      else
        workspace_->in_turn.place(Recompute::none, k.blocks[l], block_sizes_[l], arena, "kept gradients.");
      if (l + 1 < blocks_.size() || stage_.last) k.dy[l] = arena.allocate(rows, types.activation, "kept gradients.dy");
    }
  }
}

void Model::place_activations(Activations& a, Arena& arena) {
  const ModelTypes& types = store_->types();
  a.x.assign(blocks_.size() + 1, {});
  for (std::size_t l = 0; l < a.x.size(); ++l) {
    const bool given = (l == 0 && !stage_.first) || (l == blocks_.size() && !stage_.last);
    if (!given) a.x[l] = arena.allocate({sizes_.shard_rows(), section_.hidden_size}, types.activation, "block borders");
  }
  a.blocks.assign(blocks_.size(), {}), a.promoted.assign(blocks_.size(), {});
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    if (promotable_)
      BothFields{recompute_, a.blocks[l], block_sizes_[l], Recompute::full, a.promoted[l], promoted_sizes_[l]}.place(
          workspace_->layers, arena, "block.");
    else
      workspace_->layers.place(recompute_, a.blocks[l], block_sizes_[l], arena, "block.");
    if (a.blocks[l].moe.balance_S) a.losses.balance_S.push_back(a.blocks[l].moe.balance_S);
  }
  if (head_) {
    a.losses.loss_M = arena.allocate({sizes_.rows}, types.accumulate, "loss");
    workspace_->in_turn.place(Recompute::none, a.head, head_->sizes(sizes_, types), arena, "head.");
  }
  if (!mtp_) return;
  const Mtp::Sizes mtp = mtp_->sizes(sizes_, types);
  a.losses.loss_mtp_M = arena.allocate({sizes_.rows}, types.accumulate, "loss_mtp");
  const Mtp::Sizes promoted = mtp_->sizes(sizes_, store_->types_without_scales());
  if (promotable_)
    BothFields{recompute_, a.mtp, mtp, Recompute::full, a.promoted_mtp, promoted}.place(workspace_->layers, arena,
                                                                                        "mtp.");
  else
    workspace_->layers.place(recompute_, a.mtp, mtp, arena, "mtp.");
  workspace_->in_turn.place(Recompute::none, a.mtp.head, mtp.head, arena, "mtp.head.");
  a.promoted_mtp.head = a.mtp.head;
  if (a.mtp.block.moe.balance_S) a.losses.balance_S.push_back(a.mtp.block.moe.balance_S);
}

}  // namespace fourmi
