// What the kernels of plain attention share: operands, ranges of keys, and products of tiles of 64 x 64 by 256 threads,
// each of which has four rows and four columns of a tile. Tiles of queries and keys begin at multiples of 64, so that a
// row's bits depend on its own range and keys alone, if sequences begin there too. Operands go through shared memory in
// the accumulator dtype: 32 columns of two tiles of rows, or 64 columns of one; sizes have no limit. For .cu files.
#pragma once

#include <limits>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/dynamic_shared.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/numerics/math.h"

namespace fourmi::cuda::attention {

inline constexpr int num_threads = 256;
inline constexpr int tile = 64, chunk = 32;

/// Elements from row to row in shared memory: 16 bytes more than the columns, so that rows lie in different banks.
template <class T>
inline constexpr int chunk_stride = chunk + vector_length<T>;
template <class T>
inline constexpr int tile_stride = tile + vector_length<T>;

/// This thread's first row of a tile; it has four from there on.
__device__ inline int thread_row() {
  return static_cast<int>(threadIdx.x) / 16 * 4;
}
/// Its j-th column where columns are rows of the other operand. The sixteen lanes of a row lie side by side.
__device__ inline int key_column(int j) {
  return static_cast<int>(threadIdx.x) % 16 + 16 * j;
}
/// Its j-th column where columns are elements of a row: whole vectors.
template <class T>
__device__ int element_column(int j) {
  constexpr int n = vector_length<T>;
  return j / n * 16 * n + static_cast<int>(threadIdx.x) % 16 * n + j % n;
}

template <class T>
struct SharedTiles {
  T* operands;  ///< [2][tile][chunk_stride] or [tile][tile_stride]
  T* weights;   ///< [tile][tile_stride]: probabilities, then their gradients
  /// The weight of this thread's i-th row and j-th key column.
  __device__ T& weight(int i, int j) const { return weights[(thread_row() + i) * tile_stride<T> + key_column(j)]; }
  static constexpr int operand_size = tile * 2 * chunk_stride<T>, weight_size = tile * tile_stride<T>;
  static_assert(operand_size >= weight_size);
  static constexpr std::int64_t bytes = sizeof(T) * (operand_size + weight_size);
  static_assert(bytes <= shared_of_any_card);
};
template <class T>
__device__ SharedTiles<T> shared_tiles() {
  T* const p = reinterpret_cast<T*>(dynamic_shared());
  return {p, p + SharedTiles<T>::operand_size};
}

/// One head of a tensor: rows lie `stride` elements apart.
template <class X>
struct HeadRows {
  const X* data;
  std::int64_t stride;
  int num_rows, size;
  bool whole;  ///< rows are whole vectors, aligned
};

/// [begin, end) of keys.
struct Range {
  int begin, end;
  __device__ bool has(int key) const { return begin <= key && key < end; }
};

/// Blocks of a multiprocessor at once, of kernels with so many groups of 64 columns: what their registers allow.
template <class T, int groups>
inline constexpr int resident_blocks = sizeof(T) < 8 && groups <= 2 ? 2 : 1;

/// Keys that the rows of a tile see: those that some row may see, and those that each of 64 rows sees.
struct Seen {
  Range any, each;
  __device__ bool whole_tile(int key) const { return each.begin <= key && key + tile <= each.end; }
};

/// The operands of a launch, which may be a part of the heads. Strides are from row to row.
template <class X>
struct Problem {
  const X *q, *k, *v;
  const std::int32_t *key_begin, *key_end;
  std::int64_t q_stride, k_stride, v_stride, o_stride, lse_stride;
  int num_queries, num_keys, H, G, Q, V;
  bool whole_q, whole_k, whole_v;
  Accumulator<X> scale;

  __device__ int group(int head) const { return head / (H / G); }
  __device__ HeadRows<X> query_rows(int head) const {
    return {q + std::int64_t{head} * Q, q_stride, num_queries, Q, whole_q};
  }
  __device__ HeadRows<X> key_rows(int g) const { return {k + std::int64_t{g} * Q, k_stride, num_keys, Q, whole_k}; }
  __device__ HeadRows<X> value_rows(int g) const { return {v + std::int64_t{g} * V, v_stride, num_keys, V, whole_v}; }

  /// Empty for a row behind the last. Never outside of the keys, whatever the tables hold.
  __device__ Range range_of(int row) const {
    return row < num_queries ? Range{max(0, key_begin[row]), min(num_keys, key_end[row])} : Range{0, 0};
  }
  /// Ranges do not decrease, so the tile's first and last rows say it.
  __device__ Seen seen_by(int row) const {
    const Range first = range_of(row), last = range_of(min(row + tile, num_queries) - 1);
    return {{first.begin, last.end}, {last.begin, row + tile <= num_queries ? first.end : 0}};
  }
};

/// Checks shapes. Ranges are the caller's word.
template <class X>
Problem<X> problem_of(const Attention& attention, const Tensor& q, const Tensor& k, const Tensor& v,
                      const Tensor& key_begin, const Tensor& key_end) {
  const std::int64_t H = q.dim(1), G = k.dim(1), Q = q.dim(2), V = v.dim(2), most = 1 << 30;
  FOURMI_CHECK(attention.query_leaves == 0, "mode layout on a GPU");
  FOURMI_CHECK(attention.block > 0, "blocks of {} rows", attention.block);
  FOURMI_CHECK(G > 0 && H % G == 0 && Q > 0 && V > 0 && k.dim(2) == Q && v.dim(0) == k.dim(0) && v.dim(1) == G,
               "q {}, k {}, v {}", to_string(q.shape), to_string(k.shape), to_string(v.shape));
  FOURMI_CHECK(q.dim(0) <= most && k.dim(0) <= most && H * Q <= most && H * V <= most, "q {}, k {}, v {}",
               to_string(q.shape), to_string(k.shape), to_string(v.shape));
  FOURMI_CHECK(key_begin.num_elements() == q.dim(0) && key_end.num_elements() == q.dim(0),
               "{} and {} ranges for {} rows", key_begin.num_elements(), key_end.num_elements(), q.dim(0));
  constexpr int n = vector_length<X>;
  Problem<X> p{};
  p.q = pointer<X>(q), p.k = pointer<X>(k), p.v = pointer<X>(v);
  p.key_begin = pointer<std::int32_t>(key_begin), p.key_end = pointer<std::int32_t>(key_end);
  p.q_stride = H * Q, p.k_stride = G * Q, p.v_stride = G * V, p.o_stride = H * V, p.lse_stride = H;
  p.num_queries = static_cast<int>(q.dim(0)), p.num_keys = static_cast<int>(k.dim(0));
  p.H = static_cast<int>(H), p.G = static_cast<int>(G), p.Q = static_cast<int>(Q), p.V = static_cast<int>(V);
  p.whole_q = is_vector_aligned<n>(p.q, Q), p.whole_k = is_vector_aligned<n>(p.k, Q);
  p.whole_v = is_vector_aligned<n>(p.v, V);
  p.scale = static_cast<Accumulator<X>>(attention.scale);
  return p;
}

/// Where sums go: rounded once, or as they are (one of the two is null).
template <class X>
struct Result {
  X* rounded;
  Accumulator<X>* whole;
  __device__ void put(std::int64_t at, Accumulator<X> x) const {
    if (whole)
      whole[at] = x;
    else
      rounded[at] = narrow<X>(x);
  }
  __host__ __device__ Result from(std::int64_t element) const {
    return {rounded ? rounded + element : nullptr, whole ? whole + element : nullptr};
  }
};
template <class X>
Result<X> result_of(const Tensor& t) {
  if (t.dtype == dtype_of<X>) return {pointer<X>(t), nullptr};
  return {nullptr, pointer<Accumulator<X>>(t)};
}

/// A thread's share of `columns` columns of a tile of rows, on its way to shared memory: what comes from global memory
/// may be fetched while the memory it goes to is still read.
template <class X, int columns>
struct Share {
  using T = Accumulator<X>;
  static constexpr int n = vector_length<X>, vectors_a_row = columns / n, count = tile * vectors_a_row / num_threads;
  Vector<X, n> part[count];

  /// The first of its rows; the others follow `row_step` apart. Its elements of each begin at column().
  static constexpr int row_step = num_threads / vectors_a_row;
  __device__ static int first_row() { return static_cast<int>(threadIdx.x) / vectors_a_row; }
  __device__ static int column() { return static_cast<int>(threadIdx.x) % vectors_a_row * n; }

  /// Zeros behind the last row and the last column.
  __device__ __forceinline__ void fetch(const HeadRows<X>& from, int row, int first_column) {
    const int c = first_column + column(), columns_left = from.size - c, rows_left = from.num_rows - row - first_row();
    const X* const p = from.data + (row + first_row()) * from.stride + c;
    if (from.whole) {
#pragma unroll
      for (int i = 0; i < count; ++i)
        part[i] =
            i * row_step < rows_left && columns_left > 0 ? load<n>(p + i * row_step * from.stride) : Vector<X, n>{};
    } else {
#pragma unroll
      for (int i = 0; i < count; ++i)
#pragma unroll
        for (int e = 0; e < n; ++e)
          part[i].value[e] = i * row_step < rows_left && e < columns_left ? p[i * row_step * from.stride + e] : X{};
    }
  }
  __device__ __forceinline__ void put(T* to, int stride) const {
    constexpr int m = vector_length<T>;
    T* const p = to + first_row() * stride + column();
#pragma unroll
    for (int i = 0; i < count; ++i)
#pragma unroll
      for (int e = 0; e < n; e += m) {
        Vector<T, m> wide;
#pragma unroll
        for (int f = 0; f < m; ++f) wide.value[f] = widen<T>(part[i].value[e + f]);
        store<m>(p + i * row_step * stride + e, wide);
      }
  }
};

/// product[i][j] = left row (its i-th) . right row (key_column(j)): one chain, elements ascending. Who still reads the
/// tiles' operands may do so until all threads have come here; afterwards they are still read.
template <class X, class T>
__device__ __forceinline__ void multiply_rows(const HeadRows<X>& left, int left_row, const HeadRows<X>& right,
                                              int right_row, const SharedTiles<T>& shared, T (&product)[4][4]) {
  constexpr int n = vector_length<T>, stride = chunk_stride<T>;
  T *const a = shared.operands, *const b = a + tile * stride;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) product[i][j] = 0;
  Share<X, chunk> left_share, right_share;
  left_share.fetch(left, left_row, 0);
  right_share.fetch(right, right_row, 0);
#pragma unroll 1
  for (int column = 0; column < left.size; column += chunk) {
    __syncthreads();
    left_share.put(a, stride);
    right_share.put(b, stride);
    __syncthreads();
    if (column + chunk < left.size) {
      left_share.fetch(left, left_row, column + chunk);
      right_share.fetch(right, right_row, column + chunk);
    }
    const int here = min(chunk, left.size - column);
#pragma unroll 1
    for (int c = 0; c < here; c += n) {
      Vector<T, n> x[4], y[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] = load<n>(a + (thread_row() + i) * stride + c);
#pragma unroll
      for (int j = 0; j < 4; ++j) y[j] = load<n>(b + key_column(j) * stride + c);
#pragma unroll
      for (int e = 0; e < n; ++e)
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) product[i][j] = fma(x[i].value[e], y[j].value[e], product[i][j]);
    }
  }
}

/// sum[i][j] += weights of its i-th row . element element_column<T>(j) of the operand's rows. With `masked` a weight of
/// zero leaves out its row, whatever that holds: a pair that does not see one another.
template <bool masked, class T>
__device__ __forceinline__ void add_weighted(const SharedTiles<T>& shared, T (&sum)[4][4]) {
  constexpr int n = vector_length<T>, stride = tile_stride<T>;
#pragma unroll 1
  for (int k = 0; k < tile; k += n) {
    Vector<T, n> w[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) w[i] = load<n>(shared.weights + (thread_row() + i) * stride + k);
#pragma unroll
    for (int e = 0; e < n; ++e) {
      Vector<T, n> y[4 / n];
#pragma unroll
      for (int j = 0; j < 4; j += n) y[j / n] = load<n>(shared.operands + (k + e) * stride + element_column<T>(j));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const T weight = w[i].value[e];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const T added = fma(weight, y[j / n].value[j % n], sum[i][j]);
          sum[i][j] = !masked || weight != 0 ? added : sum[i][j];
        }
      }
    }
  }
}

/// The same with elements [column, column + 64) of `rows` from `row` on. What was written to the tiles' weights before
/// is seen; weights and operands are still read afterwards.
template <class X, class T>
__device__ __forceinline__ void add_weighted_rows(const HeadRows<X>& rows, int row, int column, bool whole_tile,
                                                  const SharedTiles<T>& shared, T (&sum)[4][4]) {
  Share<X, tile> share;
  share.fetch(rows, row, column);
  __syncthreads();
  share.put(shared.operands, tile_stride<T>);
  __syncthreads();
  if (whole_tile)
    add_weighted<false>(shared, sum);
  else
    add_weighted<true>(shared, sum);
}

/// Stores what add_weighted_rows summed: row i times factor[i].
template <class X, class T>
__device__ __forceinline__ void store_sums(const T (&sum)[4][4], const T (&factor)[4], const Result<X>& to,
                                           std::int64_t stride, int row, int num_rows, int column, int size) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int r = row + thread_row() + i;
    if (r >= num_rows) continue;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int c = column + element_column<T>(j);
      if (c < size) to.put(r * stride + c, sum[i][j] * factor[i]);
    }
  }
}

}  // namespace fourmi::cuda::attention
