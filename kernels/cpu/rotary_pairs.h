// Rotation of the pairs of one head by the angles of one position: shared by rotary_apply and mla_assemble.
#pragma once

#include "kernels/numerics/lanes.h"
#include "kernels/ops/rotary.h"

namespace fourmi {

/// (a, b) -> (a cos - b sin, a sin + b cos); `inverse` is the rotation by the negative angle.
template <bool inverse, class T>
FOURMI_INLINE void rotate_pair(T a, T b, T cos, T sin, T& first, T& second) {
  const T signed_sin = inverse ? -sin : sin;
  first = fma(a, cos, -(b * signed_sin));
  second = fma(a, signed_sin, b * cos);
}

/// dst[0 .. 2 half) = rotation of src[0 .. 2 half); dst may be src. angles: (cos, sin) of each pair.
template <bool inverse, class Out, class In, class T>
FOURMI_INLINE void rotate_head(RotaryLayout layout, const T* angles, std::int64_t half, const In* src, Out* dst) {
  T first, second;
  if (layout == RotaryLayout::interleaved) {
    for (std::int64_t j = 0; j < half; ++j) {
      rotate_pair<inverse>(widen<T>(src[2 * j]), widen<T>(src[2 * j + 1]), angles[2 * j], angles[2 * j + 1], first,
                           second);
      dst[2 * j] = narrow<Out>(first);
      dst[2 * j + 1] = narrow<Out>(second);
    }
  } else {
    for (std::int64_t j = 0; j < half; ++j) {
      rotate_pair<inverse>(widen<T>(src[j]), widen<T>(src[j + half]), angles[2 * j], angles[2 * j + 1], first, second);
      dst[j] = narrow<Out>(first);
      dst[j + half] = narrow<Out>(second);
    }
  }
}

/// The table of angles, and the position of each row.
template <class T>
struct Angles {
  const T* table;
  const std::int32_t* positions;
  std::int64_t half;
  FOURMI_INLINE const T* row(std::int64_t r) const { return table + positions[r] * 2 * half; }
};

/// Checks that the table has every position of the rows.
template <class T>
Angles<T> angles_of(const Tensor& table_PH2, const Tensor& positions_M, std::int64_t num_rows) {
  FOURMI_CHECK(positions_M.num_elements() == num_rows, "{} positions for {} rows", positions_M.num_elements(),
               num_rows);
  const auto* positions = positions_M.as<std::int32_t>();
  for (std::int64_t r = 0; r < num_rows; ++r)
    FOURMI_CHECK(0 <= positions[r] && positions[r] < table_PH2.dim(0), "position {} of row {}, a table of {} positions",
                 positions[r], r, table_PH2.dim(0));
  return {table_PH2.as<T>(), positions, table_PH2.dim(1)};
}

}  // namespace fourmi
