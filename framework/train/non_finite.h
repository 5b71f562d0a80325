// Where a value that is no finite number is: found when a step's loss or gradient norm is none, and before a save. Not
// on the way of a good step.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/checkpoint/boxes.h"
#include "framework/model/store.h"
#include "kernels/runtime/stream.h"
#include "parallel/group.h"

namespace fourmi {

struct BadElement {
  std::int64_t index = 0;  ///< flat
  double value = 0;        ///< NaN or an infinity
};
/// The first element that is NaN or infinite; f64, f32, bf16 (integers have none).
std::optional<BadElement> first_non_finite(const Stream&, const Tensor& x);

/// "[3, 5]": a flat index of a tensor of this shape.
std::string index_text(const Shape& shape, std::int64_t flat);

/// A rank's find, in the order in which causes are looked for: what comes first is told.
struct NonFinite {
  enum class Kind : std::int64_t { weight, activation, gradient, loss, none };
  Kind kind = Kind::none;
  std::int64_t order = 0;  ///< among those of its kind, over all ranks
  std::int64_t which = 0;  ///< weight, gradient: index into the whole table; activation: the layer, -1 the embedding
  std::int64_t micro_batch = -1, index = -1;  ///< index -1: not known
  double value = 0;
  std::int64_t more = 0;    ///< further tensors of this kind on that rank
  std::int64_t summed = 0;  ///< gradient: over ranks already, so the rank is the one that owns the sum
};

/// Looks through parts of parameters, in any order: the first in `order` that holds one.
class NonFiniteSearch {
 public:
  /// Weights in the order of the whole model's table; gradients in that of backward, which is the other way round.
  NonFiniteSearch(const Stream& stream, const ParameterTable& whole, NonFinite::Kind kind)
      : stream_(stream), whole_(whole), kind_(kind) {}
  /// `rows`: of the part of the parameter that this rank holds, from its `first_row` on.
  void look(const Parameter& p, std::int64_t first_row, const Tensor& rows, bool summed = false);
  const NonFinite& find() const { return find_; }

 private:
  const Stream& stream_;
  const ParameterTable& whole_;
  NonFinite::Kind kind_;
  NonFinite find_;
};
/// Collective: the first find of all ranks, in one sentence; equal on all.
std::string tell_first(Group&, const ParameterTable& whole, const NonFinite& mine);
/// The kind of the first find, after tell_first; equal on all.
NonFinite::Kind first_kind(Group&, const NonFinite& mine);

/// Collective. Throws Error(guard) on all ranks if a tensor of any rank's boxes holds one: nothing bad is to reach a
/// checkpoint.
void require_finite(const Stream&, Group&, std::span<const Box> boxes, std::int64_t step);

}  // namespace fourmi
