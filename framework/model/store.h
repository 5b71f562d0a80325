// Weights and gradients of a whole model: flat buffers, one pair per parameter set, and views into them.
#pragma once

#include <initializer_list>
#include <string_view>

#include "framework/model/parameters.h"
#include "kernels/runtime/arena.h"

namespace fourmi {

/// A run of adjacent parameters seen as one tensor, e.g. gate_proj and up_proj as [2 F, D].
struct Slot {
  ParameterSet set = ParameterSet::matrices;
  std::int64_t offset = 0;
  Shape shape;
};

/// dtypes of a run (docs/numerics.md "The model").
struct ModelTypes {
  DType activation = DType::bf16;  ///< residual stream, projections, matrices
  DType accumulate = DType::f32;   ///< norms, router, statistics, masters
  DType gradient = DType::f32;     ///< f32, f64, or fx128 in mode layout
};
ModelTypes model_types(Compute compute, Reproducibility reproducibility);

class ParameterStore {
 public:
  /// `gradients` may be absent (evaluation, generation): then gradient() must not be called.
  ParameterStore(const ParameterTable& table, ModelTypes types, Arena& weights, Arena* gradients);

  const ParameterTable& table() const { return *table_; }
  const ModelTypes& types() const { return types_; }

  /// From the first to the last of the named parameters, which must lie next to each other and fill `shape`.
  Slot slot(std::string_view first, std::string_view last, Shape shape) const;
  Slot slot(std::string_view name) const { return slot(name, name, table_->find(name).local); }
  /// The rows of embedding or head with the padding behind them.
  Slot padded_slot(std::string_view name) const;
  Tensor weight(const Slot& slot) const { return part(weights_[static_cast<std::size_t>(slot.set)], slot); }
  Tensor gradient(const Slot& slot) const { return part(gradients_[static_cast<std::size_t>(slot.set)], slot); }

  /// Whole flat buffers. router_bias has no gradients.
  const Tensor& weights(ParameterSet set) const { return weights_[static_cast<std::size_t>(set)]; }
  const Tensor& gradients(ParameterSet set) const { return gradients_[static_cast<std::size_t>(set)]; }

 private:
  static Tensor part(const Tensor& flat, const Slot& slot);
  const ParameterTable* table_;
  ModelTypes types_;
  Tensor weights_[3], gradients_[3];
};

/// Initial values of rows [first_row, first_row + x.dim(0)) of the part of a parameter that this rank holds, into x
/// (any float dtype): a pure function of (seed, Hugging Face name, global element), so that no layout changes it.
void initialise_rows(const Parameter& parameter, std::uint64_t seed, double initializer_range, std::int64_t first_row,
                     const Tensor& x);

}  // namespace fourmi
