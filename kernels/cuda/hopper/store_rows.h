// Results of warpgroups' products go from registers to rows in memory. For .cu files.
#pragma once

#include "kernels/cuda/hopper/ptx.h"
#include "kernels/cuda/lanes.h"

namespace fourmi::cuda::hopper {

/// A warp's part of a product, 16 rows by 128 columns, as rows of [., width]: `row` is this lane's first, a second one
/// is 8 below; columns from `column` on. Rows from row_end on and columns from `width` on are left alone.
struct RowsOf {
  std::int64_t width;
  int row, row_end, column;
};

/// y = addend + sum; the addend may be y, or null. What is read is read before anything is written, so that all of it
/// is on its way together.
__device__ inline void store_rows(const float (&sum)[64], float* y, const float* addend, const RowsOf& to) {
  const int lane_column = to.column + static_cast<int>(threadIdx.x % 4) * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = to.row + 8 * half;
    if (row >= to.row_end) continue;
    const std::int64_t at = row * to.width + lane_column;
    Vector<float, 2> v[16];
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      v[i] = {-0.0f, -0.0f};  // which adds nothing
      if (addend && lane_column + 8 * i < to.width) v[i] = load<2>(addend + at + 8 * i);
    }
#pragma unroll
    for (int i = 0; i < 16; ++i) {  // four lanes: a sector of 32 bytes
      v[i].value[0] += sum[4 * i + 2 * half], v[i].value[1] += sum[4 * i + 2 * half + 1];
      if (lane_column + 8 * i < to.width) store<2>(y + at + 8 * i, v[i]);
    }
  }
}

/// Four neighbouring lanes have a row of a 4 x 4 matrix each; afterwards a column. All lanes of the warp are here.
__device__ inline void transpose_four(std::uint32_t (&v)[4]) {
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = (threadIdx.x & static_cast<unsigned>(bit)) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & bit) != 0) continue;
      const std::uint32_t other = __shfl_xor_sync(all_lanes, upper ? v[i] : v[i | bit], bit);
      if (upper)
        v[i] = other;
      else
        v[i | bit] = other;
    }
  }
}

/// The same for bf16. Lanes of a row exchange their pairs, so that each moves 8 columns: 64 bytes together.
__device__ inline void store_rows(const float (&sum)[64], bfloat16* y, const bfloat16* addend, const RowsOf& to) {
  using Eight = Vector<std::uint32_t, 4>;
  const int lane_column = to.column + static_cast<int>(threadIdx.x % 4) * 8;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = to.row + 8 * half;
    const std::int64_t at = row * to.width + lane_column;
    const auto is_mine = [&](int i) { return row < to.row_end && lane_column + 32 * i < to.width; };
    Eight pairs[4];
#pragma unroll
    for (Eight& eight : pairs) eight = {0x80008000u, 0x80008000u, 0x80008000u, 0x80008000u};  // -0: adds nothing
    if (addend) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (is_mine(i)) pairs[i] = *reinterpret_cast<const Eight*>(addend + at + 32 * i);
#pragma unroll
      for (int i = 0; i < 4; ++i) transpose_four(pairs[i].value);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float* const two = sum + 16 * i + 4 * j + 2 * half;
        std::uint32_t& pair = pairs[i].value[j];
        pair = round_to_bfloat16(two[0] + __uint_as_float(pair << 16), two[1] + __uint_as_float(pair & 0xffff0000u));
      }
      transpose_four(pairs[i].value);
      if (is_mine(i)) *reinterpret_cast<Eight*>(y + at + 32 * i) = pairs[i];
    }
  }
}

}  // namespace fourmi::cuda::hopper
