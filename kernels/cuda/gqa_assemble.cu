// Grouped-query attention's operands from its joined projection, and the gradient of that. Bound by memory: forward
// reads and writes (H + 2 G) Q elements a row (8192 rows of 32 and 4 heads of 128 in bf16: 39 us at 4.3 TB/s); backward
// reads gradients and, with norms, the projection, and writes its gradient (57 us). A block takes some
// heads of a row, lanes share a head (gqa_heads.h), which stays in registers between its norm and what needs that.
#include "kernels/cuda/gqa_heads.h"
#include "kernels/cuda/operations.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int most_threads = 256, usual_threads = 192;

/// Shapes and pointers. Heads of a row are counted as they lie in `a`: queries, keys, values. In backward the operands
/// hold gradients, and `da` receives that of `a`.
template <class X>
struct Operands {
  using T = Accumulator<X>;
  Angles<T> angles;
  int H, G, Q;
  HeadLanes lanes;
  const X* a;
  const T *q_weight, *k_weight;  // null: no norm
  T* rstd;
  X *q, *k, *v;
  X* da = nullptr;
  T epsilon;

  /// Blocks are (row, piece of its heads).
  __device__ int head_of_thread() const { return static_cast<int>(blockIdx.y) * lanes.num_heads() + lanes.head(); }
  __device__ int num_turned() const { return H + G; }
  __host__ __device__ int num_heads() const { return H + 2 * G; }
  __device__ std::int64_t place(std::int64_t r, int h) const { return (r * num_heads() + h) * Q; }
  __device__ X* operand(std::int64_t r, int h) const {
    if (h < H) return q + (r * H + h) * Q;
    return h < num_turned() ? k + (r * G + h - H) * Q : v + (r * G + h - num_turned()) * Q;
  }
  __device__ const T* weight(int h) const { return h < H ? q_weight : k_weight; }
  __device__ T* rstd_of(std::int64_t r, int h) const { return rstd + r * num_turned() + h; }
};

template <class X, int n>
__global__ void __launch_bounds__(most_threads, 4) forward(const Operands<X> o) {
  using T = Accumulator<X>;
  const std::int64_t r = blockIdx.x;
  const int h = o.head_of_thread(), lane = o.lanes.lane(), half = o.angles.half, step = o.lanes.count() * n;
  const int end = h < o.num_heads() ? half : 0;
  const bool normed = o.q_weight != nullptr, turned = h < o.num_turned();
  const X* const in = o.a + o.place(r, h);
  HalfPairs<X, n> x;
  std::int32_t position = 0;  // is under way while the head is summed
  T sum{0};
  for (int j = lane * n; j < end; j += step) {
    x.load(in, j, half);
    position = o.angles.positions[r];
    T low{0}, high{0};
#pragma unroll
    for (int k = 0; k < n; ++k) low = fma(x.low.at(k), x.low.at(k), low), high = fma(x.high.at(k), x.high.at(k), high);
    sum += low + high;
  }
  T scale{1};
  if (normed) {
    scale = T{1} / square_root(head_sum(sum, o.lanes) / static_cast<T>(o.Q) + o.epsilon);
    if (lane == 0 && turned) *o.rstd_of(r, h) = scale;
  }
  for (int j = lane * n; j < end; j += step) {
    if (step < half) x.load(in, j, half);
    if (turned) {
      T a[n], b[n];
#pragma unroll
      for (int k = 0; k < n; ++k) a[k] = x.low.at(k), b[k] = x.high.at(k);
      if (normed) {
        const auto low = load_packed<n>(o.weight(h) + j), high = load_packed<n>(o.weight(h) + half + j);
#pragma unroll
        for (int k = 0; k < n; ++k) a[k] = a[k] * scale * low.at(k), b[k] = b[k] * scale * high.at(k);
      }
      Turn<n, T> angle;
      angle.load(o.angles.of_position(position), j, false);
      angle.turn(a, b);
      x = {pack<X>(a), pack<X>(b)};
    }
    x.store(o.operand(r, h), j, half);
  }
}

template <class X, int n>
__global__ void __launch_bounds__(most_threads, 3) backward(const Operands<X> o) {
  using T = Accumulator<X>;
  const std::int64_t r = blockIdx.x;
  const int h = o.head_of_thread(), lane = o.lanes.lane(), half = o.angles.half, step = o.lanes.count() * n;
  const int end = h < o.num_heads() ? half : 0;
  const bool normed = o.q_weight != nullptr, turned = h < o.num_turned();
  const T scale = normed && turned ? *o.rstd_of(r, h) : T{1};
  HalfPairs<X, n> up, x{};
  T a[n], b[n];
  // Of what is turned: the gradient before the turn, times the weight where there is one.
  const auto load_gradient = [&](int j) {
    up.load(o.operand(r, h), j, half);
    if (!turned) return;
    if (normed) x.load(o.a + o.place(r, h), j, half);
    Turn<n, T> angle;
    angle.load(o.angles.row(r), j, true);
#pragma unroll
    for (int k = 0; k < n; ++k) a[k] = up.low.at(k), b[k] = up.high.at(k);
    angle.turn(a, b);
    if (!normed) return;
    const auto low = load_packed<n>(o.weight(h) + j), high = load_packed<n>(o.weight(h) + half + j);
#pragma unroll
    for (int k = 0; k < n; ++k) a[k] = a[k] * low.at(k), b[k] = b[k] * high.at(k);
  };
  T sum{0};
  for (int j = lane * n; j < end; j += step) {
    load_gradient(j);
    if (!turned || !normed) continue;
    T low{0}, high{0};
#pragma unroll
    for (int k = 0; k < n; ++k) low = fma(a[k], x.low.at(k), low), high = fma(b[k], x.high.at(k), high);
    sum += low + high;
  }
  T minus_k{0};
  if (normed) minus_k = -(head_sum(sum, o.lanes) * scale * scale / static_cast<T>(o.Q));
  for (int j = lane * n; j < end; j += step) {
    if (step < half) load_gradient(j);
    if (turned) {
      if (normed) {
#pragma unroll
        for (int k = 0; k < n; ++k)
          a[k] = scale * fma(minus_k, x.low.at(k), a[k]), b[k] = scale * fma(minus_k, x.high.at(k), b[k]);
      }
      up = {pack<X>(a), pack<X>(b)};
    }
    up.store(o.da + o.place(r, h), j, half);
  }
}

template <class X>
Operands<X> operands(const GqaAssemble& op, const Tensor& table, const Tensor& positions, const Tensor& a,
                     const HeadNorm& norm, const Tensor& q, const Tensor& k, const Tensor& v) {
  using T = Accumulator<X>;
  const std::int64_t rows = a.dim(0), H = op.num_heads, G = op.num_key_heads, Q = op.head_dim;
  FOURMI_CHECK(Q % 2 == 0 && table.dim(1) * 2 == Q && a.num_elements() == rows * (H + 2 * G) * Q &&
                   q.num_elements() == rows * H * Q && k.num_elements() == rows * G * Q &&
                   v.num_elements() == rows * G * Q,
               "a {}, q {}, k {}, v {}, a table of {} pairs", to_string(a.shape), to_string(q.shape),
               to_string(k.shape), to_string(v.shape), table.dim(1));
  const bool normed = static_cast<bool>(norm.q_weight_Q);
  FOURMI_CHECK(normed == static_cast<bool>(norm.k_weight_Q) &&
                   (!normed || (norm.q_weight_Q.num_elements() == Q && norm.k_weight_Q.num_elements() == Q &&
                                norm.rstd_MN.num_elements() == rows * (H + G))),
               "weights {} and {}, rstd {}", to_string(norm.q_weight_Q.shape), to_string(norm.k_weight_Q.shape),
               to_string(norm.rstd_MN.shape));
  return {.angles = angles_of<T>(table, positions, rows),
          .H = static_cast<int>(H),
          .G = static_cast<int>(G),
          .Q = static_cast<int>(Q),
          .lanes = {},
          .a = pointer<X>(a),
          .q_weight = pointer_or_null<T>(norm.q_weight_Q),
          .k_weight = pointer_or_null<T>(norm.k_weight_Q),
          .rstd = normed ? pointer<T>(norm.rstd_MN) : nullptr,
          .q = pointer<X>(q),
          .k = pointer<X>(k),
          .v = pointer<X>(v),
          .epsilon = static_cast<T>(op.epsilon)};
}

/// Gives the kernel of vectors, or that of single elements, to the stream.
template <class X, int n>
void launch_rows(const CudaStream& stream, void (*of_vectors)(Operands<X>), void (*of_elements)(Operands<X>),
                 Operands<X> o, std::int64_t rows) {
  if (o.num_heads() == 0 || o.Q == 0) return;
  bool whole = are_whole<n>(o.angles) && is_vector_aligned<n>(o.q_weight, 0) && is_vector_aligned<n>(o.k_weight, 0);
  for (const X* const p : std::initializer_list<const X*>({o.a, o.q, o.k, o.v, o.da}))
    whole = whole && is_vector_aligned<n>(p, 0);
  o.lanes = HeadLanes(o.angles.half, whole ? n : 1);
  const std::int64_t lanes = std::int64_t{o.num_heads()} * o.lanes.count();
  const std::int64_t threads = ceil_div(ceil_div(lanes, ceil_div(lanes, usual_threads)), warp_size) * warp_size;
  launch(stream, whole ? of_vectors : of_elements,
         dim3(static_cast<unsigned>(rows), static_cast<unsigned>(ceil_div(lanes, threads))),
         static_cast<unsigned>(threads), 0, o);
}

}  // namespace

void gqa_assemble_forward(const Stream& stream, const GqaAssemble& op, const Tensor& table_PH2,
                          const Tensor& positions_M, const Tensor& a_MA, const HeadNorm& norm, const Tensor& q_MHQ,
                          const Tensor& k_MGQ, const Tensor& v_MGQ) {
  const std::int64_t rows = a_MA.dim(0);
  if (rows == 0) return;
  visit_float(a_MA.dtype, "gqa_assemble", [&]<class X>(std::type_identity<X>) {
    constexpr int n = vector_length<X>;
    launch_rows<X, n>(on(stream), forward<X, n>, forward<X, 1>,
                      operands<X>(op, table_PH2, positions_M, a_MA, norm, q_MHQ, k_MGQ, v_MGQ), rows);
  });
}

void gqa_assemble_backward_input(const Stream& stream, const GqaAssemble& op, const Tensor& table_PH2,
                                 const Tensor& positions_M, const Tensor& dq_MHQ, const Tensor& dk_MGQ,
                                 const Tensor& dv_MGQ, const Tensor& a_MA, const HeadNorm& norm, const Tensor& da_MA) {
  const std::int64_t rows = a_MA.dim(0);
  if (rows == 0) return;
  FOURMI_CHECK(da_MA.num_elements() == a_MA.num_elements(), "da {}, a {}", to_string(da_MA.shape),
               to_string(a_MA.shape));
  visit_float(a_MA.dtype, "gqa_assemble", [&]<class X>(std::type_identity<X>) {
    constexpr int n = vector_length<X>;
    Operands<X> o = operands<X>(op, table_PH2, positions_M, a_MA, norm, dq_MHQ, dk_MGQ, dv_MGQ);
    o.da = pointer<X>(da_MA);
    launch_rows<X, n>(on(stream), backward<X, n>, backward<X, 1>, o, rows);
  });
}

}  // namespace fourmi::cuda
