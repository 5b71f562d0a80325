// The student's weights, whole on every rank, from the shards that the optimizer's owners have (ZeRO's panels of the
// tensor, expert and pipeline ranks' parts). Who owns what is a pure function of recipe and mesh, so nothing is asked
// for: layer after layer each rank sends its rows to all.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/model/store.h"
#include "framework/train/optimizer.h"
#include "framework/train/stages.h"
#include "parallel/mesh.h"

namespace fourmi {

class WholeWeights {
 public:
  /// `whole`: of the whole model without multi-token prediction, in the dtypes of the training's weights (those of
  /// eight bits: as they were before). `arena`: memory for one layer on its way, where there is more than one rank.
  WholeWeights(const Recipe& recipe, const StageMap& stages, const Mesh& mesh, const ParameterStore& whole,
               Arena& arena);

  /// Collective among all ranks of the mesh: the weights as they are now. `mine`: what this rank trains with, of which
  /// the routers' correction biases are taken.
  void fill(const Optimizer& optimizer, const ParameterStore& mine, Group& world);

 private:
  /// Rows of a parameter, as a rank owns them.
  struct Piece {
    const Parameter* whole = nullptr;
    std::int64_t first_row = 0, rows = 0, first_column = 0, row_elements = 0;
  };
  using Pieces = std::vector<Piece>;
  std::int64_t bytes(const Piece& piece) const;
  std::int64_t bytes(const Pieces& pieces) const;
  void place(const Piece& piece, const std::byte* rows) const;
  void place_biases(const ParameterStore& mine) const;

  const ParameterStore* whole_;
  std::vector<std::vector<Pieces>> layers_;  // by layer, those of none first; by rank
  Tensor packed_;                            // every rank's of one layer
  std::vector<std::vector<Tensor>> mine_;    // by layer: this rank's rows, in the order of its pieces
  std::vector<std::size_t> counts_;
};

}  // namespace fourmi
