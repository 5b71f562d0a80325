// What quantisers are made of, one set for each instruction set; the operations are written once over them. Portable is
// the definition, the others give its bits.
#pragma once

#include <cstdint>

#include "kernels/numerics/bfloat16.h"
#include "kernels/runtime/stream.h"

namespace fourmi::float8 {

using Byte = std::uint8_t;  ///< an e4m3 element
inline constexpr Byte nan_element = 0x7f;

/// The arguments of shift_columns: rows of one group of rows, columns of one tile.
struct ColumnTile {
  const Byte* q;                  ///< of the first row and column
  std::int64_t stride;            ///< bytes from row to row
  const std::uint8_t* exponents;  ///< of each row's scale 2^(e - 127), 1 to 254
  std::int64_t rows, columns;     ///< at most 64 columns
  Byte* out;
  std::int64_t out_stride;
  std::uint8_t* out_exponents;  ///< of each column
};

struct Primitives {
  /// Of each `group` elements (the last group may be shorter) the bits of the largest magnitude: as integers they are
  /// in the magnitudes' order, then infinity, then NaN.
  void (*amax_f32)(const float* x, std::int64_t n, std::int64_t group, std::uint32_t* amax);
  void (*amax_bf16)(const bfloat16* x, std::int64_t n, std::int64_t group, std::uint32_t* amax);
  /// q = e4m3(x * inverses[group]). Where these are not finite q is not defined.
  void (*encode_f32)(const float* x, std::int64_t n, std::int64_t group, const float* inverses, Byte* q);
  void (*encode_bf16)(const bfloat16* x, std::int64_t n, std::int64_t group, const float* inverses, Byte* q);
  /// d = q * scale
  void (*decode)(const Byte* q, std::int64_t n, float scale, float* d);
  /// amax[i] = max(amax[i], bits of |q[i] * scale|)
  void (*column_amax)(const Byte* q, std::int64_t n, float scale, std::uint32_t* amax);
  /// out[i] = e4m3(q[i] * scale * inverses[i]), NaN 0x7f; returns how many i have out[i] * scales[i] != q[i] * scale,
  /// no NaN among them.
  std::int64_t (*encode_columns)(const Byte* q, std::int64_t n, float scale, const float* scales, const float* inverses,
                                 Byte* out);
  /// What column_amax and encode_columns do for powers of two, in integers; returns the number of lossy elements, or -1
  /// where it does not apply (scales too far apart, a NaN): then nothing is promised of the output. Null: it never
  /// applies.
  std::int64_t (*shift_columns)(const ColumnTile&);

  void amax(const float* x, std::int64_t n, std::int64_t group, std::uint32_t* to) const { amax_f32(x, n, group, to); }
  void amax(const bfloat16* x, std::int64_t n, std::int64_t group, std::uint32_t* to) const {
    amax_bf16(x, n, group, to);
  }
  void encode(const float* x, std::int64_t n, std::int64_t group, const float* inverses, Byte* q) const {
    encode_f32(x, n, group, inverses, q);
  }
  void encode(const bfloat16* x, std::int64_t n, std::int64_t group, const float* inverses, Byte* q) const {
    encode_bf16(x, n, group, inverses, q);
  }
};

extern const Primitives portable, avx2, avx512;

inline const Primitives& primitives(Isa isa) {
  return isa == Isa::avx512 ? avx512 : isa == Isa::avx2 ? avx2 : portable;
}

}  // namespace fourmi::float8
