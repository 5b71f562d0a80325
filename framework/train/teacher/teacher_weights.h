// Weights without an optimizer: of a model that is only asked, from a checkpoint's masters or from a seed.
#pragma once

#include "framework/checkpoint/load.h"
#include "framework/model/store.h"

namespace fourmi {

/// A parameter of which the checkpoint has another number of rows: those that both have are loaded, others are zero.
struct StoredRows {
  std::string name;  ///< empty: none
  std::int64_t rows = 0;
};

/// Collective: all ranks of the group, each with what it holds. Masters rounded once, and what products read of them;
/// layer after layer, so that no more than a layer's masters are in memory. `num_layers`: of the whole model.
void load_weights(Group& group, const Checkpoint& checkpoint, const ParameterStore& store, std::int64_t num_layers,
                  const Stream& stream, const StoredRows& other = {});

/// As a new run begins (initialise_rows).
void initialise_weights(const ParameterStore& store, std::uint64_t seed, double initializer_range,
                        const Stream& stream);

}  // namespace fourmi
