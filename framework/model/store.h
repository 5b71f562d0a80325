// Weights and gradients of a model: flat buffers, one pair per parameter set, and views into them. Under ZeRO 2 the
// gradients of layers, under ZeRO 3 their weights too take turns in memory for one layer (layer_panels.h).
#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "framework/model/parameters.h"
#include "framework/model/scaled_copies.h"
#include "kernels/ops/quantize.h"
#include "kernels/runtime/arena.h"
#include "kernels/runtime/stream.h"

namespace fourmi {

/// A run of adjacent parameters seen as one tensor, e.g. gate_proj and up_proj as [2 F, D].
struct Slot {
  ParameterSet set = ParameterSet::matrices;
  std::int64_t offset = 0;
  Shape shape;
  /// Rows [begin, end), counted over all dims but the last.
  Slot rows(std::int64_t begin, std::int64_t end) const {
    const std::int64_t columns = shape[shape.rank - 1];
    return {set, offset + begin * columns, {end - begin, columns}};
  }
};

/// What shares a scale of a dtype with scales: a group of the dtype's own, a block of 128 x 128, or all rows that a
/// rank quantises at once ("current scaling"), of weights a matrix.
enum class ScaleOver : std::uint8_t { group, square, tensor };

/// dtypes of a run (docs/numerics.md "The model").
struct ModelTypes {
  DType activation = DType::bf16;  ///< residual stream, projections, matrices
  DType accumulate = DType::f32;   ///< norms, router, statistics, masters
  DType gradient = DType::f32;     ///< f32, f64, or fx128 in mode layout
  /// What products of linear maps and experts read: rows and weights. Those of the activation's dtype, or with scales
  /// (docs/precision.md).
  DType operand = DType::bf16, matrix = DType::bf16;
  DType dispatched = DType::bf16;                                ///< gradients on their way to experts
  Scaling activation_scaling, gradient_scaling, weight_scaling;  ///< of such rows, of weights
  ScaleOver activation_over = ScaleOver::group, gradient_over = ScaleOver::group, weight_over = ScaleOver::group;
  ColumnScale column_scale = ColumnScale::power_of_two;  ///< of a weight gradient's operands
  bool scaled() const { return has_scales(operand); }
  /// Operations that make an operand know its scales only when all of it is there.
  bool scales_late() const { return activation_over != ScaleOver::group || gradient_over != ScaleOver::group; }
  /// Elements of a group, along a row as down a column.
  std::int64_t group() const { return operand == DType::mxe4m3_rows ? ScaledFormat::mx_block : ScaledFormat::block; }
  /// Of a layer that reads no eight bits though the run's precision has them.
  ModelTypes without_scales() const;
};
ModelTypes model_types(const PrecisionSection& precision, Reproducibility reproducibility);
inline ModelTypes model_types(Compute compute, Reproducibility reproducibility) {
  return model_types(PrecisionSection{.compute = compute}, reproducibility);
}

/// What ZeRO cuts among the ranks that hold the same parameters: optimizer state, gradients too, weights too.
enum class ZeroLevel : std::uint8_t { optimizer = 1, gradients = 2, weights = 3 };

/// What is kept of the weights of linear maps and experts where products read copies with scales: the copies alone, or
/// the weights too.
enum class MapWeights : std::uint8_t { as_products_read_them, in_full_too };

class ParameterStore {
 public:
  /// `gradients` may be absent (evaluation, generation): then gradient() must not be called.
  ParameterStore(const ParameterTable& table, ModelTypes types, Arena& weights, Arena* gradients,
                 ZeroLevel level = ZeroLevel::optimizer, MapWeights maps = MapWeights::as_products_read_them);

  /// Are a set's regions layers? So that they can take turns, and have their own form each.
  static bool by_layer(ParameterSet set, const ModelTypes& types, ZeroLevel level) {
    return set != ParameterSet::router_bias &&
           (level >= ZeroLevel::gradients || (set == ParameterSet::matrices && types.scaled()));
  }

  const ParameterTable& table() const { return *table_; }
  const ModelTypes& types() const { return types_; }
  const ModelTypes& types_without_scales() const { return types_without_scales_; }
  ZeroLevel level() const { return level_; }

  /// From the first to the last of the named parameters, which must lie next to each other and fill `shape`.
  Slot slot(std::string_view first, std::string_view last, Shape shape) const;
  Slot slot(std::string_view name) const { return slot(name, name, table_->find(name).local); }
  /// The rows of embedding or head with the padding behind them.
  Slot padded_slot(std::string_view name) const;
  /// Where there is a copy with scales: as it was gathered last, if it is kept at all.
  Tensor weight(const Slot& slot) const { return part(weights_[index(slot.set)], slot, &Place::weights); }
  /// The weight of a linear map or of experts as products read it: its FP8 copy, where there is one.
  Tensor matrix(const Slot& slot) const { return copies_ ? copies_->of(slot.offset, slot.shape) : weight(slot); }
  /// The same as the product reads it that sums over the weight's rows, where that is another copy; else absent.
  ColumnScaled matrix_columns(const Slot& slot) const {
    return copies_ ? copies_->columns(slot.offset, slot.shape) : ColumnScaled{};
  }
  /// The transposed copy, for the same product on a GPU; absent where products have none.
  Tensor matrix_transposed(const Slot& slot) const {
    return copies_ ? copies_->transposed(slot.offset, slot.shape) : Tensor{};
  }
  /// Linear maps and experts have copies with scales in a run of eight bits. Whether a region's weights are there too.
  static bool has_copy(const Region& r, const ModelTypes& types) {
    return types.scaled() && r.set == ParameterSet::matrices && r.layer >= 0;
  }
  bool has_copy(const Region& r) const { return has_copy(r, types_); }
  bool has_weight(const Region& r) const { return !has_copy(r) || maps_ == MapWeights::in_full_too; }
  const ScaledCopies& copies() const { return *copies_; }
  Tensor gradient(const Slot& slot) const { return part(gradients_[index(slot.set)], slot, &Place::gradients); }

  /// What is in memory together.
  std::span<const Region> regions(ParameterSet set) const { return regions_[index(set)]; }
  /// Flat buffers of a region. Layers may share them.
  Tensor weights(const Region& r) const;
  Tensor gradients(const Region& r) const;

  /// All memory of a set, which is its flat buffer where no layers take turns. router_bias has no gradients.
  const Tensor& weights(ParameterSet set) const { return weights_[index(set)]; }
  const Tensor& gradients(ParameterSet set) const { return gradients_[index(set)]; }

 private:
  /// Where a region lies in the memory of its set.
  struct Place {
    std::int64_t weights = 0, gradients = 0;  // negative: not there
  };
  static std::size_t index(ParameterSet set) { return static_cast<std::size_t>(set); }
  template <class Has>
  std::int64_t place(std::size_t set, bool in_turn, const Has& has, std::int64_t Place::*where);
  std::size_t region_of(ParameterSet set, std::int64_t offset) const;
  Tensor part(const Tensor& memory, const Slot& slot, std::int64_t Place::*where) const;

  const ParameterTable* table_;
  ModelTypes types_, types_without_scales_;
  ZeroLevel level_;
  MapWeights maps_;
  std::vector<Region> regions_[3];
  std::vector<Place> places_[3];  // of the regions
  Tensor weights_[3], gradients_[3];
  std::optional<ScaledCopies> copies_;
};

/// Initial values of rows [first_row, first_row + x.dim(0)) of the part of a parameter that this rank holds, into x
/// (any float dtype): a pure function of (seed, Hugging Face name, global element), so that no layout changes it.
void initialise_rows(const Parameter& parameter, std::uint64_t seed, double initializer_range, std::int64_t first_row,
                     const Tensor& x);

}  // namespace fourmi
