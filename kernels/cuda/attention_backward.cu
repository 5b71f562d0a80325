// Attention backward for any shape, in three kernels, each sum in one block's registers: delta = rowsum(do o); then dk
// and dv by blocks of 64 keys, over the query heads of the group and their rows ascending; then dq by blocks of 64
// queries. Bound by arithmetic as the forward: 4 (Q + V) operations per query, head and key that it sees for dk and dv,
// 2 (2 Q + V) for dq; scores and their gradients are formed in both. delta reads o and do once, bound by memory.
// A block sums up to `groups` times 64 columns; where dk and dv together have more, blocks of their own form the scores
// anew.
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/library/attention.h"
#include "kernels/cuda/operations.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace attention {
namespace {

/// What backward has beside the forward's operands.
template <class X>
struct Gradients {
  using T = Accumulator<X>;
  const X *o, *d_o;
  const T* lse;
  T* delta;  // [row][head of the launch]
  Result<X> dq, dk, dv;
  bool whole_o;

  __device__ HeadRows<X> rows(const Problem<X>& p, int head) const {
    return {d_o + std::int64_t{head} * p.V, p.o_stride, p.num_queries, p.V, whole_o};
  }
};

/// Sixteen lanes a row of a head.
template <class X>
__global__ void __launch_bounds__(num_threads) deltas(const Problem<X> p, const Gradients<X> g) {
  using T = Accumulator<X>;
  constexpr int n = vector_length<X>;
  const std::int64_t total = std::int64_t{p.num_queries} * p.H, rows_a_block = num_threads / 16;
  const int lane = static_cast<int>(threadIdx.x) % 16;
  for (std::int64_t first = blockIdx.x * rows_a_block; first < total; first += gridDim.x * rows_a_block) {
    const std::int64_t i = first + threadIdx.x / 16;
    T sum = 0;
    if (i < total) {
      const std::int64_t at = i / p.H * p.o_stride + i % p.H * p.V;
      for (int c = lane * n; c < p.V; c += 16 * n) {  // the same order for any alignment
        Vector<X, n> x{}, y{};
        if (g.whole_o) {
          x = load<n>(g.o + at + c), y = load<n>(g.d_o + at + c);
        } else {
#pragma unroll
          for (int e = 0; e < n; ++e)
            if (c + e < p.V) x.value[e] = g.o[at + c + e], y.value[e] = g.d_o[at + c + e];
        }
#pragma unroll
        for (int e = 0; e < n; ++e) sum = fma(widen<T>(y.value[e]), widen<T>(x.value[e]), sum);
      }
    }
    sum = lane_group_sum<16>(sum);
    if (i < total && lane == 0) g.delta[i] = sum;
  }
}

/// What a row of queries has; zeros behind the last.
template <class T>
struct RowData {
  Range range;
  T lse, delta;
};
template <class X>
__device__ RowData<Accumulator<X>> row_data(const Problem<X>& p, const Gradients<X>& g, int row, int head) {
  if (row >= p.num_queries) return {{0, 0}, 0, 0};
  return {p.range_of(row), g.lse[row * p.lse_stride + head], g.delta[std::int64_t{row} * p.H + head]};
}

/// The first of n rows whose bound is above a key; bounds never decrease.
__device__ inline int first_above(const std::int32_t* bound, int n, int key) {
  int low = 0;
  while (low < n) {
    const int middle = low + (n - low) / 2;
    if (bound[middle] > key)
      n = middle;
    else
      low = middle + 1;
  }
  return low;
}

/// Columns of dk, then columns of dv, in groups of 64. One launch's parts of them: all of both, or some of one.
struct Columns {
  int k_groups, v_groups, each;  // `each`: that a part has at most
  __host__ __device__ bool together() const { return k_groups + v_groups <= each; }
  __host__ __device__ int k_parts() const { return (k_groups + each - 1) / each; }
  __host__ __device__ int parts() const { return together() ? 1 : k_parts() + (v_groups + each - 1) / each; }
};

/// A tile is [key][query].
template <class X, int groups>
__global__ void __launch_bounds__(num_threads, (resident_blocks<Accumulator<X>, groups>))
    key_gradients(const Problem<X> p, const Gradients<X> g, const Columns columns) {
  using T = Accumulator<X>;
  __shared__ RowData<T> rows[tile];
  const SharedTiles<T> shared = shared_tiles<T>();
  const int parts = columns.parts(), index = static_cast<int>(blockIdx.x), part = index % parts;
  const int group = index / parts % p.G, key = index / parts / p.G * tile, heads = p.H / p.G;
  // Group n of this part is the k_first + n-th of dk if that is below k_end, else the v_first + n-th of dv.
  const bool together = columns.together(), of_v = !together && part >= columns.k_parts();
  const int k_first = of_v ? 0 : part * groups, k_end = of_v ? 0 : columns.k_groups;
  const int v_first = of_v ? (part - columns.k_parts()) * groups : -columns.k_groups;
  const int v_end = together || of_v ? columns.v_groups : v_first;
  const bool has_k = !of_v, has_v = together || of_v;
  const HeadRows<X> k = p.key_rows(group), v = p.value_rows(group);

  const int row_begin = first_above(p.key_end, p.num_queries, key) / tile * tile;
  const int row_end = first_above(p.key_begin, p.num_queries, key + tile - 1);
  T sum[groups][4][4] = {};
#pragma unroll 1
  for (int head = group * heads; head < (group + 1) * heads; ++head) {
    const HeadRows<X> q = p.query_rows(head), d_o = g.rows(p, head);
#pragma unroll 1
    for (int row = row_begin; row < row_end; row += tile) {
      const Seen seen = p.seen_by(row);
      if (max(seen.any.begin, key) >= min(seen.any.end, key + tile)) continue;
      const bool whole_tile = seen.whole_tile(key);
      if (threadIdx.x < tile) rows[threadIdx.x] = row_data(p, g, row + static_cast<int>(threadIdx.x), head);
      T product[4][4];
      multiply_rows(k, key, q, row, shared, product);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const RowData<T> r = rows[key_column(j)];
#pragma unroll
        for (int i = 0; i < 4; ++i)
          shared.weight(i, j) =
              whole_tile || r.range.has(key + thread_row() + i) ? exp(product[i][j] * p.scale - r.lse) : T{0};
      }
      if (has_v) {
#pragma unroll
        for (int n = 0; n < groups; ++n)
          if (k_first + n >= k_end && v_first + n < v_end)
            add_weighted_rows(d_o, row, (v_first + n) * tile, whole_tile, shared, sum[n]);
      }
      if (has_k) {
        multiply_rows(v, key, d_o, row, shared, product);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const RowData<T> r = rows[key_column(j)];
#pragma unroll
          for (int i = 0; i < 4; ++i)
            shared.weight(i, j) = whole_tile || r.range.has(key + thread_row() + i)
                                      ? shared.weight(i, j) * (product[i][j] - r.delta)
                                      : T{0};
        }
#pragma unroll
        for (int n = 0; n < groups; ++n)
          if (k_first + n < k_end) add_weighted_rows(q, row, (k_first + n) * tile, whole_tile, shared, sum[n]);
      }
    }
  }
  const T scale[4] = {p.scale, p.scale, p.scale, p.scale}, one[4] = {1, 1, 1, 1};
  const Result<X> dk = g.dk.from(std::int64_t{group} * p.Q), dv = g.dv.from(std::int64_t{group} * p.V);
#pragma unroll
  for (int n = 0; n < groups; ++n) {
    if (k_first + n < k_end)
      store_sums(sum[n], scale, dk, p.k_stride, key, p.num_keys, (k_first + n) * tile, p.Q);
    else if (v_first + n < v_end)
      store_sums(sum[n], one, dv, p.v_stride, key, p.num_keys, (v_first + n) * tile, p.V);
  }
}

/// A tile is [query][key]. The last rows, which see the most keys, come first.
template <class X, int groups>
__global__ void __launch_bounds__(num_threads, (resident_blocks<Accumulator<X>, groups>))
    query_gradients(const Problem<X> p, const Gradients<X> g, int num_tiles, int parts) {
  using T = Accumulator<X>;
  __shared__ RowData<T> rows[tile];
  const SharedTiles<T> shared = shared_tiles<T>();
  const int heads = p.H * parts, index = static_cast<int>(blockIdx.x) % heads, part = index % parts;
  const int row = (num_tiles - 1 - static_cast<int>(blockIdx.x) / heads) * tile, head = index / parts;
  const int first_column = part * groups * tile;
  const HeadRows<X> q = p.query_rows(head), d_o = g.rows(p, head);
  const HeadRows<X> k = p.key_rows(p.group(head)), v = p.value_rows(p.group(head));
  const Seen seen = p.seen_by(row);

  // Read after the barriers of the first product.
  if (threadIdx.x < tile) rows[threadIdx.x] = row_data(p, g, row + static_cast<int>(threadIdx.x), head);
  T sum[groups][4][4] = {};
#pragma unroll 1
  for (int key = seen.any.begin / tile * tile; key < seen.any.end; key += tile) {
    const bool whole_tile = seen.whole_tile(key);
    T product[4][4];
    multiply_rows(q, row, k, key, shared, product);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const RowData<T> r = rows[thread_row() + i];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        shared.weight(i, j) =
            whole_tile || r.range.has(key + key_column(j)) ? exp(product[i][j] * p.scale - r.lse) : T{0};
    }
    multiply_rows(d_o, row, v, key, shared, product);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const RowData<T> r = rows[thread_row() + i];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        shared.weight(i, j) =
            whole_tile || r.range.has(key + key_column(j)) ? shared.weight(i, j) * (product[i][j] - r.delta) : T{0};
    }
#pragma unroll
    for (int n = 0; n < groups; ++n) {
      const int column = first_column + n * tile;
      if (column < p.Q) add_weighted_rows(k, key, column, whole_tile, shared, sum[n]);
    }
  }
  const T scale[4] = {p.scale, p.scale, p.scale, p.scale};
  const Result<X> dq = g.dq.from(std::int64_t{head} * p.Q);
#pragma unroll
  for (int n = 0; n < groups; ++n)
    store_sums(sum[n], scale, dq, p.q_stride, row, p.num_queries, first_column + n * tile, p.Q);
}

template <int groups, class X>
void launch_key_gradients(const CudaStream& stream, const Problem<X>& p, const Gradients<X>& g) {
  const Columns columns{static_cast<int>(ceil_div(p.Q, tile)), static_cast<int>(ceil_div(p.V, tile)), groups};
  const std::int64_t blocks = ceil_div(p.num_keys, tile) * p.G * columns.parts();
  if (blocks == 0) return;
  launch(stream, key_gradients<X, groups>, static_cast<unsigned>(blocks), num_threads,
         SharedTiles<Accumulator<X>>::bytes, p, g, columns);
}

template <int groups, class X>
void launch_query_gradients(const CudaStream& stream, const Problem<X>& p, const Gradients<X>& g) {
  const std::int64_t tiles = ceil_div(p.num_queries, tile), parts = ceil_div(p.Q, groups * tile);
  if (tiles == 0) return;
  launch(stream, query_gradients<X, groups>, static_cast<unsigned>(tiles * p.H * parts), num_threads,
         SharedTiles<Accumulator<X>>::bytes, p, g, static_cast<int>(tiles), static_cast<int>(parts));
}

template <class X>
void launch_backward(const CudaStream& stream, const Problem<X>& p, const Gradients<X>& g) {
  const std::int64_t rows = std::int64_t{p.num_queries} * p.H;
  if (rows > 0)
    launch(stream, deltas<X>, num_blocks(rows, num_threads / 16, 16 * stream.card().num_multiprocessors), num_threads,
           0, p, g);
  const std::int64_t groups = ceil_div(p.Q, tile) + ceil_div(p.V, tile);
  bool wide = false;  // fp64 has registers for two groups
  if constexpr (sizeof(X) < 8) wide = groups > 2;
  if constexpr (sizeof(X) < 8)
    if (wide) launch_key_gradients<4>(stream, p, g);
  if (!wide) launch_key_gradients<2>(stream, p, g);
  if (p.Q <= tile) return launch_query_gradients<1>(stream, p, g);
  if constexpr (sizeof(X) < 8)
    if (p.Q > 2 * tile) return launch_query_gradients<4>(stream, p, g);
  launch_query_gradients<2>(stream, p, g);
}

/// Key/value heads [first, first + count) with their query heads.
template <class X>
Problem<X> part_of(Problem<X> p, std::int64_t first, std::int64_t count) {
  const std::int64_t heads = p.H / p.G;
  p.q += first * heads * p.Q, p.k += first * p.Q, p.v += first * p.V;
  p.G = static_cast<int>(count), p.H = static_cast<int>(count * heads);
  return p;
}
template <class X>
Gradients<X> part_of(Gradients<X> g, const Problem<X>& p, std::int64_t first) {
  const std::int64_t head = first * (p.H / p.G);
  g.o += head * p.V, g.d_o += head * p.V, g.lse += head;
  g.dq = g.dq.from(head * p.Q), g.dk = g.dk.from(first * p.Q), g.dv = g.dv.from(first * p.V);
  return g;
}

}  // namespace
}  // namespace attention

void plain_attention_backward(const Stream& stream, const Attention& attention, const Tensor& q_MHQ,
                              const Tensor& k_MGQ, const Tensor& v_MGV, const Tensor& key_begin_M,
                              const Tensor& key_end_M, const Tensor& o_MHV, const Tensor& lse_MH, const Tensor& do_MHV,
                              const Tensor& dq_MHQ, const Tensor& dk_MGQ, const Tensor& dv_MGV) {
  using namespace attention;
  visit_float(q_MHQ.dtype, "attention", [&]<class X>(std::type_identity<X>) {
    using T = Accumulator<X>;
    const Problem<X> p = problem_of<X>(attention, q_MHQ, k_MGQ, v_MGV, key_begin_M, key_end_M);
    const Shape o_shape({q_MHQ.dim(0), p.H, p.V});
    FOURMI_CHECK(o_MHV.shape == o_shape && do_MHV.shape == o_shape && lse_MH.num_elements() == q_MHQ.dim(0) * p.H,
                 "o {}, do {}, lse {}", to_string(o_MHV.shape), to_string(do_MHV.shape), to_string(lse_MH.shape));
    FOURMI_CHECK(dq_MHQ.shape == q_MHQ.shape && dk_MGQ.shape == k_MGQ.shape && dv_MGV.shape == v_MGV.shape,
                 "dq {}, dk {}, dv {}", to_string(dq_MHQ.shape), to_string(dk_MGQ.shape), to_string(dv_MGV.shape));
    Gradients<X> g{pointer<X>(o_MHV),    pointer<X>(do_MHV),   pointer<T>(lse_MH),   nullptr,
                   result_of<X>(dq_MHQ), result_of<X>(dk_MGQ), result_of<X>(dv_MGV), false};
    constexpr int n = vector_length<X>;
    g.whole_o = is_vector_aligned<n>(g.o, p.V) && is_vector_aligned<n>(g.d_o, p.V);
    // delta has to fit the scratch memory: as many heads at once as do.
    const std::int64_t rows_a_group = std::int64_t{p.num_queries} * (p.H / p.G);
    const std::int64_t fit = CudaStream::workspace_bytes / static_cast<std::int64_t>(sizeof(T));
    const std::int64_t at_once = std::clamp<std::int64_t>(fit / std::max<std::int64_t>(rows_a_group, 1), 1, p.G);
    for (std::int64_t first = 0; first < p.G; first += at_once) {
      const std::int64_t count = std::min(at_once, p.G - first);
      Gradients<X> part = part_of(g, p, first);
      part.delta = on(stream).workspace<T>(rows_a_group * count);
      launch_backward(on(stream), part_of(p, first, count), part);
    }
  });
}

void attention_backward(const Stream& stream, const Attention& attention, const Tensor& q_MHQ, const Tensor& k_MGQ,
                        const Tensor& v_MGV, const Tensor& key_begin_M, const Tensor& key_end_M, const Tensor& o_MHV,
                        const Tensor& lse_MH, const Tensor& do_MHV, const Tensor& dq_MHQ, const Tensor& dk_MGQ,
                        const Tensor& dv_MGV) {
  const Span span(stream.timeline(), Work::attention, "attention_backward");
  if (library::attention_backward(stream, attention, q_MHQ, k_MGQ, v_MGV, key_begin_M, o_MHV, lse_MH, do_MHV, dq_MHQ,
                                  dk_MGQ, dv_MGV))
    return;
  plain_attention_backward(stream, attention, q_MHQ, k_MGQ, v_MGV, key_begin_M, key_end_M, o_MHV, lse_MH, do_MHV,
                           dq_MHQ, dk_MGQ, dv_MGV);
}

}  // namespace fourmi::cuda
