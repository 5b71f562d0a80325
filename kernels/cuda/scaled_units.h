// Several units of eight elements of a row, quantised by a thread together: neighbouring lanes share a unit's group as
// in scaled_groups.h, but a lane makes the scale of one unit alone and lends it to the others. So a scale costs its
// divisions in a few lanes instead of in all. For .cu files.
#pragma once

#include "kernels/cuda/float8_instructions.h"
#include "kernels/cuda/largest_magnitude.h"
#include "kernels/cuda/scaled_groups.h"

namespace fourmi::cuda {

/// What rows consist of: any columns; whole units, which are aligned; as many of these as the threads hold that take
/// the row together, each at every call.
enum class Rows { any, whole, full };

/// The largest of unit lane % n, among the lanes that differ from this one in their last bits only (lane / n is equal).
template <int n>
__device__ std::uint32_t most_of_own_unit(const std::uint32_t (&most)[n]) {
  if constexpr (n == 1) {
    return most[0];
  } else {
    constexpr int half = n / 2;  // units with this bit go to lanes with it, and half of the units are left
    const bool upper = (threadIdx.x & half) != 0;
    std::uint32_t left[half];
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const std::uint32_t kept = upper ? most[i + half] : most[i], given = upper ? most[i] : most[i + half];
      const std::uint32_t other = __shfl_xor_sync(all_lanes, given, half);
      left[i] = kept > other ? kept : other;
    }
    return most_of_own_unit(left);
  }
}

/// Stores the unit's elements that are below the row's end.
template <Rows are>
__device__ void store_unit_of(const ScaledRows& q, std::uint8_t* row, int column, const float (&v)[8], float inverse) {
  if (are != Rows::full && column >= q.size) return;
  Vector<std::uint32_t, 2> bytes;  // under a scale that is no number all are 0x7f, because the inverse is none
#pragma unroll
  for (int i = 0; i < 2; ++i)
    bytes.value[i] =
        e4m3_of_four(v[4 * i] * inverse, v[4 * i + 1] * inverse, v[4 * i + 2] * inverse, v[4 * i + 3] * inverse);
  if constexpr (are == Rows::any) {
    if (column + 8 > q.size) {
#pragma unroll
      for (int k = 0; k < 8; ++k)
        if (column + k < q.size) row[column + k] = static_cast<std::uint8_t>(bytes.value[k / 4] >> (8 * (k % 4)));
      return;
    }
  }
  store<2>(reinterpret_cast<std::uint32_t*>(row + column), bytes);
}

/// Stores the scale of the group that begins at `column`, and behind a row's last one zeros.
template <Rows are>
__device__ void store_scale_of(const ScaledRows& q, std::uint8_t* row, int column, float scale) {
  const std::uint32_t bits = __float_as_uint(scale);
  std::uint8_t* at = row + q.size;
  if (q.mx) {
    at += column / 32;
    *at++ = static_cast<std::uint8_t>(bits >> 23);  // NaN: 0xff
  } else {
    at += column / 128 * 4;
    if (are != Rows::any || q.size % 4 == 0) {
      *reinterpret_cast<std::uint32_t*>(at) = bits;
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) at[i] = static_cast<std::uint8_t>(bits >> (8 * i));
    }
    at += 4;
  }
  if (column + q.group() >= q.size)
    for (; at < row + q.stride; ++at) *at = 0;
}

/// Unit i of this lane begins at columns[i], a multiple of 8; lanes with equal lane / 16 have one group of 128 of it,
/// in order; values behind the row's end are zeros. Every lane of the warp calls it.
template <Rows are = Rows::any, int n>
__device__ void quantize_units(const ScaledRows& q, std::int64_t row, const int (&columns)[n],
                               const float (&value)[n][8]) {
  static_assert(n == 1 || n == 2 || n == 4);
  const int lane = static_cast<int>(threadIdx.x % warp_size), own = lane & (n - 1);
  std::uint32_t most[n];
#pragma unroll
  for (int i = 0; i < n; ++i) most[i] = largest_bits_of(value[i]);
  std::uint32_t largest = most_of_own_unit(most);
#pragma unroll
  for (int step = n; step < 16; step *= 2) {
    const std::uint32_t other = __shfl_xor_sync(all_lanes, largest, step);
    if (step < 4 || !q.mx) largest = largest > other ? largest : other;
  }
  const GroupScale s = scale_of_bits(largest > q.floor ? largest : q.floor, q.kind);
  float inverses[n];
#pragma unroll
  for (int i = 0; i < n; ++i) inverses[i] = __shfl_sync(all_lanes, s.inverse, (lane & -n) + i);
  std::uint8_t* const to = q.data + row * q.stride;
#pragma unroll
  for (int i = 0; i < n; ++i) store_unit_of<are>(q, to, columns[i], value[i], inverses[i]);
  int column = columns[0];
#pragma unroll
  for (int i = 1; i < n; ++i) column = own == i ? columns[i] : column;
  const int in_group = lane & (q.mx ? 3 : 15);  // the first lane with this unit's scale stores it
  column -= 8 * in_group;
  if (in_group == own && (are == Rows::full || column < q.size)) store_scale_of<are>(q, to, column, s.scale);
}

}  // namespace fourmi::cuda
