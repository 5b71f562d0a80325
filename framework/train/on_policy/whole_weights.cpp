#include "framework/train/on_policy/whole_weights.h"

#include <algorithm>
#include <cstring>

#include "framework/train/coordinates.h"

namespace fourmi {

WholeWeights::WholeWeights(const Recipe& recipe, const StageMap& stages, const Mesh& mesh, const ParameterStore& whole,
                           Arena& arena)
    : whole_(&whole) {
  const auto num_layers = static_cast<std::size_t>(recipe.model.num_hidden_layers + 1);
  layers_.assign(num_layers, std::vector<Pieces>(static_cast<std::size_t>(mesh.ranks())));
  mine_.resize(num_layers), counts_.resize(static_cast<std::size_t>(mesh.ranks()));
  const ModelTypes types = model_types(recipe.precision, recipe.run.reproducibility);
  for (int rank = 0; rank < mesh.ranks(); ++rank) {
    const Coordinates at(recipe, stages, mesh, rank);
    const ParameterTable held(recipe.model, at.holding(recipe, stages));
    Optimizer::visit_plans(
        held, types, static_cast<ZeroLevel>(recipe.parallel.zero), at.members,
        [&](const Region&, const std::vector<const Parameter*>& parameters, const ShardPlan& plan, Member member) {
          for (const RowRun& run : plan.runs(member.rank)) {
            const Parameter& p = *parameters[run.tensor];
            if (p.mtp) continue;
            layers_[static_cast<std::size_t>(p.layer + 1)][static_cast<std::size_t>(rank)].push_back(
                {&whole.table().find(p.name), p.first_row + run.first_row, run.num_rows, p.first_column,
                 run.num_elements / run.num_rows});
          }
        });
  }
  if (mesh.ranks() == 1) return;
  std::int64_t most = 0;
  for (const std::vector<Pieces>& ranks : layers_) {
    std::int64_t all = 0;
    for (const Pieces& pieces : ranks) all += bytes(pieces);
    most = std::max(most, all);
  }
  packed_ = arena.allocate({most}, DType::u8, "a layer's weights on their way");
}

std::int64_t WholeWeights::bytes(const Piece& piece) const {
  return piece.rows * piece.row_elements * size_of(whole_->weights(piece.whole->set).dtype);
}

std::int64_t WholeWeights::bytes(const Pieces& pieces) const {
  std::int64_t sum = 0;
  for (const Piece& piece : pieces) sum += bytes(piece);
  return sum;
}

void WholeWeights::place(const Piece& piece, const std::byte* rows) const {
  const Parameter& p = *piece.whole;
  const Tensor to = whole_->weight(whole_->slot(p.name));
  const std::int64_t size = size_of(to.dtype), width = p.shape.num_elements() / p.shape[0] * size,
                     row = piece.row_elements * size;
  auto* at = static_cast<std::byte*>(to.data) + piece.first_row * width + piece.first_column * size;
  if (row == width) {
    std::memcpy(at, rows, static_cast<std::size_t>(piece.rows * row));
    return;
  }
  for (std::int64_t r = 0; r < piece.rows; ++r)
    std::memcpy(at + r * width, rows + r * row, static_cast<std::size_t>(row));
}

void WholeWeights::place_biases(const ParameterStore& mine) const {
  for (const Parameter* p : whole_->table().of(ParameterSet::router_bias)) {
    const Tensor from = mine.weight(mine.slot(p->name)), to = whole_->weight(whole_->slot(p->name));
    FOURMI_CHECK(from.bytes() == to.bytes(), "{}: {} bytes, {} in the copy", p->name, from.bytes(), to.bytes());
    std::memcpy(to.data, from.data, static_cast<std::size_t>(from.bytes()));
  }
}

void WholeWeights::fill(const Optimizer& optimizer, const ParameterStore& mine, Group& world) {
  const auto me = static_cast<std::size_t>(world.rank());
  for (std::vector<Tensor>& rows : mine_) rows.clear();
  optimizer.visit_weights([&](const Parameter& p, std::int64_t, const Tensor& rows) {
    if (!p.mtp) mine_[static_cast<std::size_t>(p.layer + 1)].push_back(rows);
  });
  for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
    const std::vector<Pieces>& ranks = layers_[layer];
    const Pieces& own = ranks[me];
    FOURMI_CHECK(own.size() == mine_[layer].size(), "{} pieces of a layer, {} were planned", mine_[layer].size(),
                 own.size());
    std::size_t all = 0, before = 0;
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      if (r == me) before = all;
      all += counts_[r] = static_cast<std::size_t>(bytes(ranks[r]));
    }
    auto* const packed = packed_ ? static_cast<std::byte*>(packed_.data) : nullptr;
    std::size_t at = before;
    for (std::size_t i = 0; i < own.size(); ++i) {
      const Tensor& rows = mine_[layer][i];
      FOURMI_CHECK(rows.bytes() == bytes(own[i]), "{}: {} bytes, {} in the copy", own[i].whole->name, rows.bytes(),
                   bytes(own[i]));
      place(own[i], static_cast<const std::byte*>(rows.data));
      if (!packed) continue;
      std::memcpy(packed + at, rows.data, static_cast<std::size_t>(rows.bytes()));
      at += static_cast<std::size_t>(rows.bytes());
    }
    if (!packed) continue;
    // Its own place in what is received.
    world.all_gather_v({packed + before, counts_[me]}, {packed, all}, counts_);
    at = 0;
    for (std::size_t r = 0; r < ranks.size(); ++r)
      for (const Piece& piece : ranks[r]) {
        if (r != me) place(piece, packed + at);
        at += static_cast<std::size_t>(bytes(piece));
      }
  }
  place_biases(mine);
}

}  // namespace fourmi
