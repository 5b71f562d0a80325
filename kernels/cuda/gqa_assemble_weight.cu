// The gradients of the weights of query and key heads' norms. Bound by memory: of each query and key head the gradient
// and the projection are read, 2 (H + G) Q elements a row (8192 rows of 32 and 4 heads of 128 in bf16: 35 us at 4.3
// TB/s). Lanes share a head (gqa_heads.h) and keep the sums of their
// columns over the heads that come to them; those of a block become a partial in workspace (partial_sums.h). Some
// blocks take queries, the others keys.
#include "kernels/cuda/gqa_heads.h"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/partial_sums.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int num_warps = 8, threads = num_warps * warp_size;
constexpr std::int64_t most_parts = partial_blocks / 2, heads_of_lanes = 8;

/// Heads of one kind, queries or keys; pointers are to the first of them.
template <class X>
struct Kind {
  const X *dy, *a;
  const Accumulator<X>* rstd;
  int heads;
  std::int64_t tasks, tasks_a_part;  ///< a task is a head of a row
  int num_parts;
  Accumulator<X>* partials;  ///< [num_parts, Q]
};

template <class X>
struct Problem {
  Angles<Accumulator<X>> angles;
  Kind<X> queries, keys;
  int Q, turned_heads;
  HeadLanes lanes;
  std::int64_t a_stride;
};

/// Blocks (part, piece of the pairs); parts of queries come first.
template <class X, int n>
__global__ void __launch_bounds__(threads) sum_parts(const Problem<X> p) {
  using T = Accumulator<X>;
  __shared__ T of_warp[num_warps][warp_size * 2 * n];
  const bool of_queries = static_cast<int>(blockIdx.x) < p.queries.num_parts;
  const Kind<X> kind = of_queries ? p.queries : p.keys;
  const int part = static_cast<int>(blockIdx.x) - (of_queries ? 0 : p.queries.num_parts);
  const int half = p.angles.half, lane = p.lanes.lane(), width = p.lanes.count() * n;
  const int piece = static_cast<int>(blockIdx.y) * width, j = piece + lane * n;
  const std::int64_t first = part * kind.tasks_a_part, first_row = first / kind.heads;
  const int first_head = static_cast<int>(first % kind.heads);
  const int count = static_cast<int>(min(kind.tasks_a_part, kind.tasks - first));
  T low[n] = {}, high[n] = {};
  if (j < half) {
    for (int i = p.lanes.head(); i < count; i += p.lanes.num_heads()) {
      const int h = (first_head + i) % kind.heads;
      const std::int64_t r = first_row + (first_head + i) / kind.heads;
      HalfPairs<X, n> up, x;
      up.load(kind.dy + (r * kind.heads + h) * p.Q, j, half);
      x.load(kind.a + r * p.a_stride + std::int64_t{h} * p.Q, j, half);
      const T scale = kind.rstd[r * p.turned_heads + h];
      T a[n], b[n];
#pragma unroll
      for (int k = 0; k < n; ++k) a[k] = up.low.at(k), b[k] = up.high.at(k);
      Turn<n, T> angle;
      angle.load(p.angles.row(r), j, true);
      angle.turn(a, b);
#pragma unroll
      for (int k = 0; k < n; ++k) {
        low[k] = fma(a[k], x.low.at(k) * scale, low[k]);
        high[k] = fma(b[k], x.high.at(k) * scale, high[k]);
      }
    }
  }
  // Lanes of other heads with the same columns, then warps.
  for (int apart = p.lanes.count(); apart < warp_size; apart *= 2) {
#pragma unroll
    for (int k = 0; k < n; ++k) {
      low[k] += __shfl_xor_sync(all_lanes, low[k], apart);
      high[k] += __shfl_xor_sync(all_lanes, high[k], apart);
    }
  }
  if (static_cast<int>(threadIdx.x) % warp_size < p.lanes.count()) {
    T* const mine = of_warp[threadIdx.x / warp_size];
#pragma unroll
    for (int k = 0; k < n; ++k) mine[lane * n + k] = low[k], mine[width + lane * n + k] = high[k];
  }
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < 2 * width; c += threads) {
    const int pair = piece + c % width;
    if (pair >= half) continue;
    T total = of_warp[0][c];
#pragma unroll
    for (int w = 1; w < num_warps; ++w) total += of_warp[w][c];
    kind.partials[std::int64_t{part} * p.Q + (c < width ? pair : half + pair)] = total;
  }
}

/// How many parts a kind has: enough for all lanes to be busy, and no more than half of the workspace has room for.
template <class X>
void cut(Kind<X>& kind, HeadLanes lanes, std::int64_t Q) {
  if (kind.tasks == 0) return;
  const std::int64_t fit = CudaStream::workspace_bytes / 2 / (Q * static_cast<std::int64_t>(sizeof(Accumulator<X>)));
  const std::int64_t wanted = ceil_div(kind.tasks, heads_of_lanes * threads / lanes.count());
  kind.tasks_a_part = ceil_div(kind.tasks, std::max<std::int64_t>(1, std::min({wanted, most_parts, fit})));
  kind.num_parts = static_cast<int>(ceil_div(kind.tasks, kind.tasks_a_part));
}

}  // namespace

void gqa_assemble_backward_weight(const Stream& stream, const GqaAssemble& op, const Tensor& table_PH2,
                                  const Tensor& positions_M, const Tensor& dq_MHQ, const Tensor& dk_MGQ,
                                  const Tensor& a_MA, const Tensor& rstd_MN, const Tensor& dq_weight_Q,
                                  const Tensor& dk_weight_Q, const Cuts& cuts) {
  const std::int64_t rows = a_MA.dim(0), H = op.num_heads, G = op.num_key_heads, Q = op.head_dim;
  FOURMI_CHECK(cuts.rows == 0 && cuts.row_token == nullptr && op.head_leaves == 1 && dq_weight_Q.dtype != DType::fx128,
               "mode layout on a GPU");
  if (rows == 0 || Q == 0) return;
  FOURMI_CHECK(Q % 2 == 0 && table_PH2.dim(1) * 2 == Q && a_MA.num_elements() == rows * (H + 2 * G) * Q &&
                   dq_MHQ.num_elements() == rows * H * Q && dk_MGQ.num_elements() == rows * G * Q &&
                   rstd_MN.num_elements() == rows * (H + G) && dq_weight_Q.num_elements() == Q &&
                   dk_weight_Q.num_elements() == Q,
               "a {}, dq {}, dk {}, rstd {}, weights {} and {}", to_string(a_MA.shape), to_string(dq_MHQ.shape),
               to_string(dk_MGQ.shape), to_string(rstd_MN.shape), to_string(dq_weight_Q.shape),
               to_string(dk_weight_Q.shape));
  visit_float(a_MA.dtype, "gqa_assemble", [&]<class X>(std::type_identity<X>) {
    using T = Accumulator<X>;
    constexpr int n = vector_length<X>;
    const CudaStream& s = on(stream);
    const X* const a = pointer<X>(a_MA);
    const T* const rstd = pointer<T>(rstd_MN);
    Problem<X> p{angles_of<T>(table_PH2, positions_M, rows),
                 {pointer<X>(dq_MHQ), a, rstd, static_cast<int>(H), rows * H, 0, 0, nullptr},
                 {pointer<X>(dk_MGQ), a + H * Q, rstd + H, static_cast<int>(G), rows * G, 0, 0, nullptr},
                 static_cast<int>(Q),
                 static_cast<int>(H + G),
                 {},
                 (H + 2 * G) * Q};
    const bool whole = are_whole<n>(p.angles) && is_vector_aligned<n>(a, 0) && is_vector_aligned<n>(p.queries.dy, 0) &&
                       is_vector_aligned<n>(p.keys.dy, 0);
    const int of_lane = whole ? n : 1;
    p.lanes = HeadLanes(Q / 2, of_lane);
    cut(p.queries, p.lanes, Q);
    cut(p.keys, p.lanes, Q);
    const std::int64_t num_parts = p.queries.num_parts + p.keys.num_parts;
    if (num_parts == 0) return;
    p.queries.partials = s.workspace<T>(num_parts * Q);
    p.keys.partials = p.queries.partials + p.queries.num_parts * Q;
    const dim3 blocks(static_cast<unsigned>(num_parts),
                      static_cast<unsigned>(ceil_div(Q / 2, of_lane * p.lanes.count())));
    launch(s, whole ? sum_parts<X, n> : sum_parts<X, 1>, blocks, threads, 0, p);
    add_up<T>(s, {p.queries.partials, p.queries.num_parts, pointer<T>(dq_weight_Q)}, static_cast<int>(Q),
              {p.keys.partials, p.keys.num_parts, pointer<T>(dk_weight_Q)});
  });
}

}  // namespace fourmi::cuda
