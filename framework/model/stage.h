// A stage: a run of a model's layers, with what comes before the first and after the last of them. And the tables that
// all stages of a rank read.
#pragma once

#include "framework/model/family.h"
#include "framework/model/store.h"
#include "kernels/runtime/arena.h"

namespace fourmi {

struct Stage {
  std::int64_t begin = 0, end = 0;  ///< layers
  bool first = false;               ///< it embeds the tokens; another stage is given its input
  bool last = false;                ///< it has the head and multi-token prediction; another one gives its output on

  static Stage whole(const ModelSection& model) { return {0, model.num_hidden_layers, true, true}; }
  std::int64_t num_layers() const { return end - begin; }
};

/// Of the whole model, on every rank: all know all experts' load.
struct ModelTables {
  ModelTables() = default;
  ModelTables(const ModelSection& model, const ModelTypes& types, std::int64_t num_positions, Arena& arena);

  Tensor rotary;     ///< [P, rope/2, 2]
  Tensor counts_LE;  ///< choices of each expert since the last reset, [MoE layers, E] i64: MTP's layer last
};

}  // namespace fourmi
