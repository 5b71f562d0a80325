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
  std::int64_t more = 0;  ///< further tensors of this kind on that rank
};

/// The first weight (in the order of the whole model's table) that holds one.
NonFinite find_in_weights(const Stream&, const ParameterStore&, const ParameterTable& whole);
/// The first gradient that backward reached (the last in the table's order), before the sum over ranks.
NonFinite find_in_gradients(const Stream&, const ParameterStore&, const ParameterTable& whole);
/// Collective: the first find of all ranks, in one sentence; equal on all.
std::string tell_first(Group&, const ParameterTable& whole, const NonFinite& mine);
/// The kind of the first find, after tell_first; equal on all.
NonFinite::Kind first_kind(Group&, const NonFinite& mine);

/// Collective. Throws Error(guard) on all ranks if a tensor of any rank's boxes holds one: nothing bad is to reach a
/// checkpoint.
void require_finite(const Stream&, Group&, std::span<const Box> boxes, std::int64_t step);

}  // namespace fourmi
