// Rotation of pairs by the angles of positions: what rotary_apply and the assembling operations have in common. For .cu
// files.
#pragma once

#include <limits>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/packed.h"
#include "kernels/ops/rotary.h"

namespace fourmi::cuda {

/// The table of angles, and the position of each row. The host does not see positions: one that the table does not have
/// gives NaN.
template <class T>
struct Angles {
  const T* table;
  const std::int32_t* positions;
  std::int64_t num_positions;
  int half;  ///< pairs of a head

  /// (cos, sin) of each pair; null for a position that there is not.
  __device__ const T* row(std::int64_t r) const { return of_position(positions[r]); }
  __device__ const T* of_position(std::int32_t position) const {
    return 0 <= position && position < num_positions ? table + position * 2 * std::int64_t{half} : nullptr;
  }
};
template <class T>
Angles<T> angles_of(const Tensor& table_PH2, const Tensor& positions_M, std::int64_t num_rows) {
  FOURMI_CHECK(positions_M.num_elements() == num_rows, "{} positions for {} rows", positions_M.num_elements(),
               num_rows);
  return {pointer<T>(table_PH2), pointer<std::int32_t>(positions_M), table_PH2.dim(0),
          static_cast<int>(table_PH2.dim(1))};
}
/// May the angles of n pairs be loaded as vectors?
template <int n, class T>
bool are_whole(const Angles<T>& angles) {
  return angles.half % n == 0 && is_vector_aligned<vector_length<T>>(angles.table, 0);
}

/// Cosines and sines of n pairs, from pair j on. The rotation by the negative angle has the negative sine.
template <int n, class T>
struct Turn {
  T cos[n], sin[n];

  /// `row` is Angles::row's.
  __device__ void load(const T* row, int j, bool inverse) {
    constexpr int pairs = n == 1 ? 1 : vector_length<T> / 2;  // of one load
#pragma unroll
    for (int k = 0; k < n; k += pairs) {
      Vector<T, 2 * pairs> v;
      if (row == nullptr) {
#pragma unroll
        for (T& x : v.value) x = std::numeric_limits<T>::quiet_NaN();
      } else if constexpr (n == 1) {
        v.value[0] = row[2 * j], v.value[1] = row[2 * j + 1];
      } else {
        v = cuda::load<2 * pairs>(row + 2 * (j + k));
      }
#pragma unroll
      for (int p = 0; p < pairs; ++p)
        cos[k + p] = v.value[2 * p], sin[k + p] = inverse ? -v.value[2 * p + 1] : v.value[2 * p + 1];
    }
  }
  /// (a, b) -> (a cos - b sin, a sin + b cos)
  __device__ void turn(T (&a)[n], T (&b)[n]) const {
#pragma unroll
    for (int k = 0; k < n; ++k) {
      const T first = fma(a[k], cos[k], -(b[k] * sin[k])), second = fma(a[k], sin[k], b[k] * cos[k]);
      a[k] = first, b[k] = second;
    }
  }
};

/// n pairs of a head, from pair j on: (x_j, x_j+half) where they are `apart`, else (x_2j, x_2j+1).
template <bool apart, int n, class X, class T>
__device__ void load_pairs(int half, const X* head, int j, T (&a)[n], T (&b)[n]) {
  const Packed<X, n> first = load_packed<n>(head + (apart ? j : 2 * j));
  const Packed<X, n> second = load_packed<n>(head + (apart ? j + half : 2 * j + n));
#pragma unroll
  for (int k = 0; k < n; ++k) {
    if constexpr (apart)
      a[k] = first.at(k), b[k] = second.at(k);
    else
      a[k] = 2 * k < n ? first.at(2 * k) : second.at(2 * k - n),
      b[k] = 2 * k + 1 < n ? first.at(2 * k + 1) : second.at(2 * k + 1 - n);
  }
}
template <bool apart, int n, class X, class T>
__device__ void store_pairs(int half, X* head, int j, const T (&a)[n], const T (&b)[n]) {
  if constexpr (apart) {
    store_packed(head + j, pack<X>(a));
    store_packed(head + j + half, pack<X>(b));
  } else {
    T first[n], second[n];
#pragma unroll
    for (int i = 0; i < n; ++i) {
      first[i] = i % 2 == 0 ? a[i / 2] : b[i / 2];
      second[i] = (i + n) % 2 == 0 ? a[(i + n) / 2] : b[(i + n) / 2];
    }
    store_packed(head + 2 * j, pack<X>(first));
    store_packed(head + 2 * j + n, pack<X>(second));
  }
}

/// Goes over the pieces of some heads, those of one head after those of the last: from this thread's first in steps of
/// the number of threads.
struct HeadWalk {
  int pieces, head, piece, head_step, piece_step;

  __device__ HeadWalk(int pieces_of_head, int thread, int num_threads)
      : pieces(pieces_of_head),
        head(thread / pieces),
        piece(thread % pieces),
        head_step(num_threads / pieces),
        piece_step(num_threads % pieces) {}
  __device__ void step() {
    head += head_step, piece += piece_step;
    if (piece >= pieces) piece -= pieces, ++head;
  }
};

/// The heads of a row, which lie a stride apart; what is read may be what is written.
template <class In, class Out>
struct Heads {
  const In* src;
  int src_stride;
  Out* dst;
  int dst_stride, count;
};

template <bool apart, int n, class In, class Out, class T>
__device__ void turn_heads(const Heads<In, Out>& h, const T* angles, int half, bool inverse, HeadWalk at) {
  for (; at.head < h.count; at.step()) {
    const int j = at.piece * n;
    T a[n], b[n];
    load_pairs<apart>(half, h.src + at.head * h.src_stride, j, a, b);
    Turn<n, T> angle;
    angle.load(angles, j, inverse);
    angle.turn(a, b);
    store_pairs<apart>(half, h.dst + at.head * h.dst_stride, j, a, b);
  }
}
/// By `num_threads`, of which this is `thread`. `angles` may be null (Angles::row).
template <int n, class In, class Out, class T>
__device__ void turn_heads(const Heads<In, Out>& h, RotaryLayout layout, const T* angles, int half, bool inverse,
                           int thread, int num_threads) {
  if (half == 0) return;
  const HeadWalk walk(half / n, thread, num_threads);
  if (layout == RotaryLayout::half_split)
    turn_heads<true, n>(h, angles, half, inverse, walk);
  else
    turn_heads<false, n>(h, angles, half, inverse, walk);
}

/// Of the first row, and how far the next ones are.
template <class In, class Out>
struct HeadRows {
  Heads<In, Out> heads;
  std::int64_t src_row, dst_row, rows;
};

constexpr int turn_threads = 256;

/// A row has blockDim.x threads, a block blockDim.y rows.
template <int n, class In, class Out>
__global__ void __launch_bounds__(turn_threads, 3)
    turn_rows(const HeadRows<In, Out> h, const Angles<Accumulator<Out>> angles, RotaryLayout layout, bool inverse) {
  const std::int64_t r = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (r >= h.rows) return;
  Heads<In, Out> heads = h.heads;
  heads.src += r * h.src_row, heads.dst += r * h.dst_row;
  turn_heads<n>(heads, layout, angles.row(r), angles.half, inverse, static_cast<int>(threadIdx.x),
                static_cast<int>(blockDim.x));
}

template <class In, class Out>
void launch_turn_rows(const CudaStream& stream, const HeadRows<In, Out>& h, const Angles<Accumulator<Out>>& angles,
                      RotaryLayout layout, bool inverse) {
  constexpr int n = vector_length<Out>;
  const Heads<In, Out>& heads = h.heads;
  const bool whole = are_whole<n>(angles) && is_vector_aligned<n>(heads.src, h.src_row) && heads.src_stride % n == 0 &&
                     is_vector_aligned<n>(heads.dst, h.dst_row) && heads.dst_stride % n == 0;
  const std::int64_t items = std::int64_t{heads.count} * angles.half / (whole ? n : 1);
  if (h.rows == 0 || items == 0) return;
  unsigned of_row = 1;
  while (of_row < turn_threads && of_row < items) of_row *= 2;
  const unsigned num_rows = turn_threads / of_row;
  launch(stream, whole ? turn_rows<n, In, Out> : turn_rows<1, In, Out>,
         static_cast<unsigned>(ceil_div(h.rows, num_rows)), dim3(of_row, num_rows), 0, h, angles, layout, inverse);
}

}  // namespace fourmi::cuda
