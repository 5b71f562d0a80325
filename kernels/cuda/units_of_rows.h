// As scaled_units.h, for a thread whose units may lie in several rows. For .cu files.
#pragma once

#include "kernels/cuda/scaled_units.h"

namespace fourmi::cuda {

/// Eight neighbouring elements of a row; one behind the row's end is not stored.
struct Unit {
  std::uint32_t row;
  int column;
};

/// Units i of lanes with equal lane / 16 (mx: lane / 4) have one group of their row, in order. What they have behind
/// their row's end counts in the group too: zeros, or elements of it once more. `whole`: rows are multiples of eight.
/// Every lane of the warp calls it.
template <bool whole, int n>
__device__ void quantize_units_of_rows(const ScaledRows& q, const Unit (&units)[n], const float (&value)[n][8]) {
  static_assert(n == 1 || n == 2 || n == 4);
  constexpr Rows are = whole ? Rows::whole : Rows::any;
  const unsigned lane = threadIdx.x % warp_size, own = lane % n;
  std::uint32_t most[n];
#pragma unroll
  for (int i = 0; i < n; ++i) most[i] = largest_bits_of(value[i]);
  std::uint32_t largest = most_of_own_unit(most);
#pragma unroll
  for (int step = n; step < 16; step *= 2) {
    if (step >= 4 && q.mx) break;
    const std::uint32_t other = __shfl_xor_sync(all_lanes, largest, step);
    largest = largest > other ? largest : other;
  }
  const GroupScale s = scale_of_bits(largest > q.floor ? largest : q.floor, q.kind);
  float inverses[n];
#pragma unroll
  for (int i = 0; i < n; ++i) inverses[i] = __shfl_sync(all_lanes, s.inverse, static_cast<int>(lane / n * n) + i);
  Unit mine = units[0];
#pragma unroll
  for (int i = 0; i < n; ++i) {
    mine = own == static_cast<unsigned>(i) ? units[i] : mine;
    store_unit_of<are>(q, q.data + units[i].row * q.stride, units[i].column, value[i], inverses[i]);
  }
  const unsigned in_group = lane % (q.mx ? 4 : 16);  // the first lane with this unit's scale stores it
  const int column = mine.column - 8 * static_cast<int>(in_group);
  if (in_group == own && column < q.size) store_scale_of<are>(q, q.data + mine.row * q.stride, column, s.scale);
}

}  // namespace fourmi::cuda
