// Attention forward for any shape, with an online softmax. Bound by arithmetic: 2 (Q + V) operations per query, head
// and key that it sees, in fp32 (fp64 for fp64) fused multiply-adds on the CUDA cores, which on an H200 do 60e12
// (30e12) operations a second. Four rows by four columns a thread, with both operands from shared memory: about a third
// of that is expected. A block has 64 queries of one head and up to `groups` times 64 columns of the output; a wider
// output is cut among blocks, each of which forms the scores anew. The last rows, which see the most keys, come first.
#include "kernels/cuda/attention_tiles.h"
#include "kernels/cuda/library/attention.h"
#include "kernels/cuda/operations.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace attention {
namespace {

/// The running softmax of a thread's four rows; the sixteen threads of a row have the same.
template <class T>
struct Softmax {
  T max[4], sum[4];

  /// Products become probabilities; `rescale` is what the output has to be multiplied by.
  __device__ __forceinline__ void add(const Range* ranges, int key, bool whole_tile, T scale, T (&s)[4][4],
                                      T (&rescale)[4]) {
    constexpr T nothing = -std::numeric_limits<T>::infinity();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Range range = ranges[thread_row() + i];
      T most = max[i];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        s[i][j] = whole_tile || range.has(key + key_column(j)) ? s[i][j] * scale : nothing;
        most = s[i][j] > most ? s[i][j] : most;
      }
#pragma unroll
      for (int step = 8; step > 0; step /= 2) {
        const T other = __shfl_xor_sync(all_lanes, most, step);
        most = other > most ? other : most;
      }
      const T shift = most == nothing ? T{0} : most;
      rescale[i] = exp(max[i] - shift);
      max[i] = most;
      T part = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        s[i][j] = exp(s[i][j] - shift);
        part += s[i][j];
      }
      sum[i] = fma(sum[i], rescale[i], lane_group_sum<16>(part));
    }
  }
};

template <class X, int groups>
__global__ void __launch_bounds__(num_threads, (resident_blocks<Accumulator<X>, groups>))
    forward(const Problem<X> p, const Result<X> o, Accumulator<X>* __restrict__ lse, int num_tiles, int parts) {
  using T = Accumulator<X>;
  __shared__ Range ranges[tile];
  const SharedTiles<T> shared = shared_tiles<T>();
  const int heads = p.H * parts, index = static_cast<int>(blockIdx.x) % heads, part = index % parts;
  const int row = (num_tiles - 1 - static_cast<int>(blockIdx.x) / heads) * tile, head = index / parts;
  const int first_column = part * groups * tile;
  const HeadRows<X> q = p.query_rows(head), k = p.key_rows(p.group(head)), v = p.value_rows(p.group(head));
  const Seen seen = p.seen_by(row);

  // Read after the barriers of the first product.
  if (threadIdx.x < tile) ranges[threadIdx.x] = p.range_of(row + static_cast<int>(threadIdx.x));
  Softmax<T> softmax;
  T out[groups][4][4] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    softmax.max[i] = -std::numeric_limits<T>::infinity();
    softmax.sum[i] = 0;
  }
#pragma unroll 1
  for (int key = seen.any.begin / tile * tile; key < seen.any.end; key += tile) {
    const bool whole_tile = seen.whole_tile(key);
    T s[4][4], rescale[4];
    multiply_rows(q, row, k, key, shared, s);
    softmax.add(ranges, key, whole_tile, p.scale, s, rescale);
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) shared.weight(i, j) = s[i][j];
#pragma unroll
    for (int g = 0; g < groups; ++g) {
      const int column = first_column + g * tile;
      if (column >= p.V) continue;
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) out[g][i][j] *= rescale[i];
      add_weighted_rows(v, key, column, whole_tile, shared, out[g]);
    }
  }
  T inverse[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) inverse[i] = softmax.sum[i] == 0 ? T{0} : T{1} / softmax.sum[i];
  const Result<X> to = o.from(std::int64_t{head} * p.V);
#pragma unroll
  for (int g = 0; g < groups; ++g)
    store_sums(out[g], inverse, to, p.o_stride, row, p.num_queries, first_column + g * tile, p.V);
  if (part > 0 || threadIdx.x % 16 != 0) return;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int r = row + thread_row() + i;
    if (r < p.num_queries) lse[r * p.lse_stride + head] = softmax.max[i] + log(softmax.sum[i]);
  }
}

template <int groups, class X>
void launch_forward(const CudaStream& stream, const Problem<X>& p, const Result<X>& o, Accumulator<X>* lse) {
  const std::int64_t tiles = ceil_div(p.num_queries, tile), parts = ceil_div(p.V, groups * tile);
  launch(stream, forward<X, groups>, static_cast<unsigned>(tiles * p.H * parts), num_threads,
         SharedTiles<Accumulator<X>>::bytes, p, o, lse, static_cast<int>(tiles), static_cast<int>(parts));
}

}  // namespace
}  // namespace attention

void plain_attention_forward(const Stream& stream, const Attention& attention, const Tensor& q_MHQ, const Tensor& k_MGQ,
                             const Tensor& v_MGV, const Tensor& key_begin_M, const Tensor& key_end_M,
                             const Tensor& o_MHV, const Tensor& lse_MH) {
  using namespace attention;
  visit_float(q_MHQ.dtype, "attention", [&]<class X>(std::type_identity<X>) {
    const Problem<X> p = problem_of<X>(attention, q_MHQ, k_MGQ, v_MGV, key_begin_M, key_end_M);
    FOURMI_CHECK(o_MHV.shape == Shape({q_MHQ.dim(0), p.H, p.V}) && lse_MH.num_elements() == q_MHQ.dim(0) * p.H,
                 "o {}, lse {}", to_string(o_MHV.shape), to_string(lse_MH.shape));
    const Result<X> o = result_of<X>(o_MHV);
    auto* const lse = pointer<Accumulator<X>>(lse_MH);
    if (p.num_queries == 0 || p.H == 0) return;
    if (p.V <= tile) return launch_forward<1>(on(stream), p, o, lse);
    if constexpr (sizeof(X) < 8)
      if (p.V > 2 * tile) return launch_forward<4>(on(stream), p, o, lse);
    launch_forward<2>(on(stream), p, o, lse);
  });
}

void attention_forward(const Stream& stream, const Attention& attention, const Tensor& q_MHQ, const Tensor& k_MGQ,
                       const Tensor& v_MGV, const Tensor& key_begin_M, const Tensor& key_end_M, const Tensor& o_MHV,
                       const Tensor& lse_MH) {
  const Span span(stream.timeline(), Work::attention, "attention_forward");
  if (library::attention_forward(stream, attention, q_MHQ, k_MGQ, v_MGV, key_begin_M, o_MHV, lse_MH)) return;
  plain_attention_forward(stream, attention, q_MHQ, k_MGQ, v_MGV, key_begin_M, key_end_M, o_MHV, lse_MH);
}

}  // namespace fourmi::cuda
