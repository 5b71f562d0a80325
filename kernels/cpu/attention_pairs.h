// The inner products of attention in bf16: chains of pairs, as vdpbf16ps computes them (docs/numerics.md "Attention",
// "Linear" 3), and the ways in which their operands get into pairs. A word holds two bf16, the earlier element of the
// sum in its lower half.
#pragma once

#include <cstdint>

#include "kernels/numerics/bfloat16.h"
#include "kernels/runtime/stream.h"

namespace fourmi::attention {

using Word = std::uint32_t;

/// Query rows side by side in a tile, as four vectors of sixteen.
inline constexpr std::int64_t tile_lanes = 64;

/// What becomes of a finished chain `sum`.
enum class Finish : std::uint8_t {
  store,           ///< c = sum
  go_on,           ///< the chain starts from c instead of zero
  add,             ///< c = c + sum
  rescale_and_add  ///< c = fma(c, factor[row], sum + 0): a zero sum counts as +0
};

/// For r < rows and j < 16 * vectors: the chain over k < steps of pairs a[r * a_row + k * a_step] and b[k * b_step +
/// j], finished into c[r * c_row + j]. Strides of a and b in words. With 0 steps a chain is +0.
struct PairProduct {
  const Word* a;
  std::int64_t a_row, a_step;
  const Word* b;
  std::int64_t b_step;
  std::int64_t steps;
  float* c;
  std::int64_t c_row;
  std::int64_t rows, vectors;
  Finish finish;
  const float* factor = nullptr;  ///< [rows]
};

/// Two rows of 16 * vectors floats rounded to bf16 (magnitudes below 2^-126 count as zero, nearest even else).
struct RoundedRows {
  const float *even, *odd;  ///< null: a row of zeros
  std::int64_t vectors;
  Word *even_row, *odd_row;  ///< null, or where a row goes as consecutive bf16
  Word* pairs;               ///< null, or where word j takes (even[j], odd[j])
};

struct PairKernels {
  void (*multiply)(const PairProduct&);
  void (*round)(const RoundedRows&);
};
PairKernels pair_kernels(Isa isa);
PairKernels pair_kernels_avx512();

/// The rounding of RoundedRows.
constexpr bfloat16 narrow_flushed(float x) {
  const float magnitude = x < 0 ? -x : x;
  return bfloat16(magnitude < 0x1p-126F ? 0.0F * x : x);
}

}  // namespace fourmi::attention
