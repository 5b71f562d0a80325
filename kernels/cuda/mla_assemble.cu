// Multi-head latent attention's operands from its projections, and their gradients. Bound by memory: every element is
// read once and written once (the shared rotary key: written to every head; a row of 128 heads of 128 + 64 and 128
// moves 0.5 MB both ways). A block takes one row's queries, or its keys and values; copies and rotations are loops of
// their own, because lanes of a warp that do both would wait for each other.
#include "kernels/cuda/dynamic_shared.h"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/rotary_pairs.h"
#include "kernels/numerics/power_of_two.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256;

/// Shapes, and the pointers of the operation's operands; `q` and `a` point at their first used column.
template <class X>
struct Operands {
  Angles<Accumulator<X>> angles;
  RotaryLayout layout;
  int num_heads, nope, rope, v;
  X *q, *kv, *a;  // projections
  std::int64_t q_stride, a_stride;
  X *q_MHQ, *k_MHQ, *v_MHV;  // attention's operands

  __host__ __device__ int width() const { return nope + rope; }
  __device__ X* kv_row(std::int64_t r) const { return kv + r * num_heads * (nope + v); }
  __device__ X* q_head_row(std::int64_t r) const { return q_MHQ + r * num_heads * width(); }
  __device__ X* k_head_row(std::int64_t r) const { return k_MHQ + r * num_heads * width(); }
  __device__ X* v_head_row(std::int64_t r) const { return v_MHV + r * num_heads * v; }
};

/// `columns` of each of a row's heads, which lie a stride apart, by the threads of the block; several loads under way.
template <int n, class X>
__device__ void copy_heads(const X* src, int src_stride, X* dst, int dst_stride, int heads, int columns) {
  constexpr int at_once = 4;
  if (columns == 0) return;
  HeadWalk from(columns / n, static_cast<int>(threadIdx.x), threads), to = from;
  while (from.head < heads) {
    Packed<X, n> v[at_once];
#pragma unroll
    for (int i = 0; i < at_once; ++i, from.step())
      if (from.head < heads) v[i] = load_packed<n>(src + from.head * src_stride + from.piece * n);
#pragma unroll
    for (int i = 0; i < at_once; ++i, to.step())
      if (to.head < heads) store_packed(dst + to.head * dst_stride + to.piece * n, v[i]);
  }
}

template <int n, class X>
__device__ void turn(const Operands<X>& o, bool inverse, std::int64_t r, const X* src, int src_stride, X* dst,
                     int dst_stride) {
  turn_heads<n>(Heads<X, X>{src, src_stride, dst, dst_stride, o.num_heads}, o.layout, o.angles.row(r), o.angles.half,
                inverse, static_cast<int>(threadIdx.x), threads);
}

/// Blocks (row, half) for halves from `first_half` on: 0 queries, 1 keys and values.
template <class X, int n>
__global__ void __launch_bounds__(threads) forward(const Operands<X> o, int first_half) {
  const std::int64_t r = blockIdx.x;
  const int width = o.width(), kv_width = o.nope + o.v;
  if (static_cast<int>(blockIdx.y) + first_half == 0) {
    const X* const in = o.q + r * o.q_stride;
    X* const out = o.q_head_row(r);
    copy_heads<n>(in, width, out, width, o.num_heads, o.nope);
    turn<n>(o, false, r, in + o.nope, width, out + o.nope, width);
  } else {
    const X* const in = o.kv_row(r);
    X* const out = o.k_head_row(r);
    copy_heads<n>(in, kv_width, out, width, o.num_heads, o.nope);
    copy_heads<n>(in + o.nope, kv_width, o.v_head_row(r), o.v, o.num_heads, o.v);
    turn<n>(o, false, r, static_cast<const X*>(o.a + r * o.a_stride), 0, out + o.nope, width);
  }
}

/// sums[leaf, i] = the sum over the leaf's heads of column i, ascending from the first head's value.
template <class X, class T>
__device__ void sum_leaves(const Operands<X>& o, const X* dk, int leaves, T* sums) {
  const int heads = o.num_heads / leaves, width = o.width();
  for (int i = static_cast<int>(threadIdx.x); i < leaves * o.rope; i += threads) {
    const X* const column = dk + i / o.rope * heads * width + i % o.rope;
    T sum = widen<T>(column[0]);
#pragma unroll 8
    for (int h = 1; h < heads; ++h) sum += widen<T>(column[h * width]);
    sums[i] = sum;
  }
}
/// The perfect binary tree over the leaves of column i.
template <class T>
__device__ T root_of_leaves(T* sums, int leaves, int rope, int i) {
  for (int apart = 1; apart < leaves; apart *= 2)
    for (int c = 0; c < leaves; c += 2 * apart) sums[c * rope + i] += sums[(c + apart) * rope + i];
  return sums[i];
}

/// dk_pe: [M, rope], or null: rotated back into a.
template <class X, int n>
__global__ void __launch_bounds__(threads) backward(const Operands<X> o, int leaves, Accumulator<X>* dk_pe) {
  using T = Accumulator<X>;
  const std::int64_t r = blockIdx.x;
  const int width = o.width(), kv_width = o.nope + o.v;
  if (blockIdx.y == 0) {
    const X* const dq = o.q_head_row(r);
    X* const out = o.q + r * o.q_stride;
    copy_heads<n>(dq, width, out, width, o.num_heads, o.nope);
    turn<n>(o, true, r, dq + o.nope, width, out + o.nope, width);
    return;
  }
  T* const sums = reinterpret_cast<T*>(dynamic_shared());
  const X* const dk = o.k_head_row(r);
  X* const out = o.kv_row(r);
  sum_leaves(o, dk + o.nope, leaves, sums);
  copy_heads<n>(dk, width, out, kv_width, o.num_heads, o.nope);
  copy_heads<n>(static_cast<const X*>(o.v_head_row(r)), o.v, out + o.nope, kv_width, o.num_heads, o.v);
  __syncthreads();
  const T* const angles = o.angles.row(r);
  for (int j = static_cast<int>(threadIdx.x); j < o.angles.half; j += threads) {
    const bool apart = o.layout == RotaryLayout::half_split;
    const int first = apart ? j : 2 * j, second = apart ? j + o.angles.half : 2 * j + 1;
    T a[1] = {root_of_leaves(sums, leaves, o.rope, first)}, b[1] = {root_of_leaves(sums, leaves, o.rope, second)};
    if (dk_pe != nullptr) {
      dk_pe[r * o.rope + first] = a[0], dk_pe[r * o.rope + second] = b[0];
    } else {
      Turn<1, T> angle;
      angle.load(angles, j, true);
      angle.turn(a, b);
      o.a[r * o.a_stride + first] = narrow<X>(a[0]), o.a[r * o.a_stride + second] = narrow<X>(b[0]);
    }
  }
}

/// The largest power of two up to 8 that divides the number of heads (docs/numerics.md, "Rotary embedding"), unless the
/// caller says how many of a larger number's leaves these heads are.
std::int64_t leaves_of(const MlaAssemble& mla) {
  if (mla.head_leaves > 0) {
    FOURMI_CHECK(is_power_of_two(mla.head_leaves) && mla.num_heads % mla.head_leaves == 0, "{} leaves of {} heads",
                 mla.head_leaves, mla.num_heads);
    return mla.head_leaves;
  }
  std::int64_t leaves = 8;
  while (mla.num_heads % leaves != 0) leaves /= 2;
  return leaves;
}

/// Elements of a row of a_MA, 0 where it is absent.
std::int64_t row_of_keys(const MlaAssemble& mla, const Tensor& a, std::int64_t rows) {
  if (!a) return 0;
  FOURMI_CHECK(a.dim(0) == rows && mla.k_column + mla.rope <= a.num_elements() / rows, "a {}, {} columns from {}",
               to_string(a.shape), mla.rope, mla.k_column);
  return a.num_elements() / rows;
}

template <class X>
Operands<X> operands(const MlaAssemble& mla, const Tensor& table, const Tensor& positions, const Tensor& q,
                     const Tensor& kv, const Tensor& a, const Tensor& q_MHQ, const Tensor& k_MHQ, const Tensor& v_MHV) {
  const std::int64_t rows = (q_MHQ ? q_MHQ : k_MHQ).dim(0), heads = mla.num_heads, width = mla.nope + mla.rope;
  const std::int64_t q_stride = q ? q.num_elements() / rows : 0, a_stride = row_of_keys(mla, a, rows);
  const auto fits = [&](const Tensor& t, std::int64_t columns) { return t.num_elements() == rows * heads * columns; };
  FOURMI_CHECK(!q_MHQ || (q.dim(0) == rows && mla.q_column + heads * width <= q_stride && fits(q_MHQ, width)),
               "q {} and {}, {} heads of {} from column {}", to_string(q.shape), to_string(q_MHQ.shape), heads, width,
               mla.q_column);
  FOURMI_CHECK(!k_MHQ || (fits(kv, mla.nope + mla.v) && fits(k_MHQ, width) && fits(v_MHV, mla.v)),
               "kv {}, k {}, v {} of {} rows", to_string(kv.shape), to_string(k_MHQ.shape), to_string(v_MHV.shape),
               rows);
  FOURMI_CHECK(table.dim(1) * 2 == mla.rope, "a table of {} pairs, {} columns to rotate", table.dim(1), mla.rope);
  return {angles_of<Accumulator<X>>(table, positions, rows),
          mla.layout,
          static_cast<int>(heads),
          static_cast<int>(mla.nope),
          static_cast<int>(mla.rope),
          static_cast<int>(mla.v),
          q ? pointer<X>(q) + mla.q_column : nullptr,
          pointer_or_null<X>(kv),
          a ? pointer<X>(a) + mla.k_column : nullptr,
          q_stride,
          a_stride,
          pointer_or_null<X>(q_MHQ),
          pointer_or_null<X>(k_MHQ),
          pointer_or_null<X>(v_MHV)};
}

/// Are all columns that are copied and rotated vectors of n at addresses of such?
template <int n, class X>
bool are_whole(const Operands<X>& o) {
  const auto aligned = [](const X* p, std::int64_t stride) { return is_vector_aligned<n>(p, stride); };
  return are_whole<n>(o.angles) && o.nope % n == 0 && o.v % n == 0 && aligned(o.q, o.q_stride) &&
         aligned(o.a, o.a_stride) && aligned(o.kv, 0) && aligned(o.q_MHQ, 0) && aligned(o.k_MHQ, 0) &&
         aligned(o.v_MHV, 0);
}

}  // namespace

void mla_assemble_forward(const Stream& stream, const MlaAssemble& mla, const Tensor& table_PH2,
                          const Tensor& positions_M, const Tensor& q_MB, const Tensor& kv_MHC, const Tensor& a_MA,
                          const Tensor& q_MHQ, const Tensor& k_MHQ, const Tensor& v_MHV) {
  const Span span(stream.timeline(), Work::attention, "mla_assemble_forward");
  const Tensor& given = q_MHQ ? q_MHQ : k_MHQ;
  const std::int64_t rows = given.dim(0);
  if (rows == 0) return;
  FOURMI_CHECK(!k_MHQ || a_MA, "keys without their shared part");
  visit_float(given.dtype, "mla_assemble", [&]<class X>(std::type_identity<X>) {
    constexpr int n = vector_length<X>;
    const auto o = operands<X>(mla, table_PH2, positions_M, q_MB, kv_MHC, a_MA, q_MHQ, k_MHQ, v_MHV);
    launch(on(stream), are_whole<n>(o) ? forward<X, n> : forward<X, 1>,
           dim3(static_cast<unsigned>(rows), q_MHQ && k_MHQ ? 2 : 1), threads, 0, o, q_MHQ ? 0 : 1);
  });
}

void mla_assemble_backward(const Stream& stream, const MlaAssemble& mla, const Tensor& table_PH2,
                           const Tensor& positions_M, const Tensor& dq_MHQ, const Tensor& dk_MHQ, const Tensor& dv_MHV,
                           const Tensor& dq_MB, const Tensor& dkv_MHC, const Tensor& da_MA, const Tensor& dk_pe_MR) {
  const Span span(stream.timeline(), Work::attention, "mla_assemble_backward");
  const std::int64_t rows = dq_MHQ.dim(0);
  if (rows == 0) return;
  FOURMI_CHECK(dk_pe_MR ? dk_pe_MR.num_elements() == rows * mla.rope : static_cast<bool>(da_MA),
               "dk_pe {}, da {}, {} rows of {}", to_string(dk_pe_MR.shape), to_string(da_MA.shape), rows, mla.rope);
  visit_float(dq_MHQ.dtype, "mla_assemble", [&]<class X>(std::type_identity<X>) {
    using T = Accumulator<X>;
    constexpr int n = vector_length<X>;
    const auto o = operands<X>(mla, table_PH2, positions_M, dq_MB, dkv_MHC, da_MA, dq_MHQ, dk_MHQ, dv_MHV);
    const std::int64_t leaves = leaves_of(mla);
    launch(on(stream), are_whole<n>(o) ? backward<X, n> : backward<X, 1>, dim3(static_cast<unsigned>(rows), 2), threads,
           leaves * mla.rope * static_cast<std::int64_t>(sizeof(T)), o, static_cast<int>(leaves),
           pointer_or_null<T>(dk_pe_MR));
  });
}

void mla_rotary_key_backward(const Stream& stream, const MlaAssemble& mla, const Tensor& table_PH2,
                             const Tensor& positions_M, const Tensor& dk_pe_MR, const Tensor& da_MA) {
  const Span span(stream.timeline(), Work::attention, "mla_rotary_key_backward");
  const std::int64_t rows = da_MA.dim(0);
  if (rows == 0) return;
  FOURMI_CHECK(dk_pe_MR.num_elements() == rows * mla.rope && table_PH2.dim(1) * 2 == mla.rope,
               "dk_pe {}, da {}, {} columns to rotate, a table of {} pairs", to_string(dk_pe_MR.shape),
               to_string(da_MA.shape), mla.rope, table_PH2.dim(1));
  visit_float(da_MA.dtype, "mla_rotary_key", [&]<class X>(std::type_identity<X>) {
    using T = Accumulator<X>;
    const std::int64_t a_stride = row_of_keys(mla, da_MA, rows);
    const Heads<T, X> key{pointer<T>(dk_pe_MR), 0, pointer<X>(da_MA) + mla.k_column, 0, 1};
    launch_turn_rows(on(stream), HeadRows<T, X>{key, mla.rope, a_stride, rows},
                     angles_of<T>(table_PH2, positions_M, rows), mla.layout, true);
  });
}

}  // namespace fourmi::cuda
