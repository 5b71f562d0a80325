// The sum of what several ranks have, element by element, in ascending order (docs/numerics.md "Sums across ranks").
//
// Mathematics   sum = p0 + p1 + ..., a chain in the parts' dtype; y = sum, or y + sum.
// Dtypes        parts f32 or f64: y the same. Parts fx128 (exact, order-free): y fx128, or f32 or f64 by one rounding
//   to nearest, ties to even; then it is not added to.
#pragma once

#include <span>

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// Is a sum written, or added to what was there?
enum class Into : std::uint8_t { write, add };

inline constexpr std::int64_t max_parts_in_order = 1024;

/// Parts and y have the same number of elements; y may be a part.
void sum_in_order(const Stream&, std::span<const Tensor> parts, const Tensor& y, Into);

}  // namespace fourmi
