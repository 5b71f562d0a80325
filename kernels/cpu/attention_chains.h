// The inner product of attention: sixteen lanes side by side, each an fma chain that ascends over `steps`. Scores,
// gradients of probabilities, outputs and all three gradients are chains of this one form (docs/numerics.md
// "Attention").
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/runtime/stream.h"

namespace fourmi::attention {

inline constexpr std::int64_t lanes = 16;

/// For r < rows, l < 16, k ascending over [0, steps):  c[r][l] = fma(a[k][l], b[k][r], c[r][l]),
/// with a[k] = a + k * a_step, b[k][r] = b[k * b_step + r * b_row], c[r] = c + r * c_row.
template <class T>
struct Chain {
  const T* a;
  std::int64_t a_step;
  const T* b;
  std::int64_t b_step, b_row;
  std::int64_t steps;
  T* c;
  std::int64_t c_row;
  std::int64_t rows;
  bool from_zero = false;  ///< c holds nothing yet
};

/// One mask word a lane, all ones or zero, as wide as the scalar.
template <class T>
using MaskWord = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;

template <class T>
struct Chains {
  void (*add)(const Chain<T>&);
  /// The same, but step k leaves lane l as it is where mask[k * 16 + l] is zero.
  void (*add_masked)(const Chain<T>&, const MaskWord<T>* mask);
  /// out[j][i] = in[i][j] for sixteen by sixteen elements; steps between rows of in and of out.
  void (*transpose)(const T* in, std::int64_t in_step, T* out, std::int64_t out_step);
};

/// float has a path per instruction set; double is only for tests of mathematics and has the portable one.
template <class T>
Chains<T> chains_of(Isa isa);

}  // namespace fourmi::attention
