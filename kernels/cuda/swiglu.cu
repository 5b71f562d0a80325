// SwiGLU both ways. Bound by memory: forward reads 2 F and writes F elements a row, backward reads 3 F and writes 2 F.
// The forms that write rows with scales are in swiglu_scaled.cu.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/row_vectors.h"
#include "kernels/cuda/swiglu.h"
#include "kernels/ops/swiglu.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = RowVectors::threads, blocks = RowVectors::blocks;
constexpr int each = 2;  ///< vectors a lane
template <class X>
constexpr bool is_fast = sizeof(X) == 2;

/// Vectors of n: of 16 bytes, or of one element where rows do not consist of these. Vector i of h is the i-th of its
/// memory; one of gate_up lies `row` F further on, and that of the same columns of up F behind it. Who comes behind the
/// last vector writes that one once more.
template <int n, class X>
__global__ void __launch_bounds__(threads, blocks)
    forward(const X* __restrict__ gate_up, X* __restrict__ h, const RowVectors vectors, int size) {
  using T = Accumulator<X>;
  const std::uint32_t first = RowVectors::first<each>();
  Packed<X, n> gate[each], up[each];
  std::int64_t at[each];
#pragma unroll
  for (int v = 0; v < each; ++v) {
    const std::uint32_t i = vectors.here(first + v * warp_size);
    at[v] = std::int64_t{i} * n;
    const X* const from = gate_up + at[v] + std::int64_t{vectors.by_row(i)} * size;
    gate[v] = load_packed<n>(from);
    up[v] = load_packed<n>(from + size);
  }
#pragma unroll
  for (int v = 0; v < each; ++v) {
    T out[n];
#pragma unroll
    for (int k = 0; k < n; ++k) out[k] = swiglu<is_fast<X>>(gate[v].at(k), up[v].at(k));
    store_packed(h + at[v], pack<X>(out));
  }
}

template <int n, class X>
__global__ void __launch_bounds__(threads, blocks)
    backward(const X* __restrict__ dh, const X* __restrict__ gate_up, X* __restrict__ dgate_up,
             const RowVectors vectors, int size) {
  using T = Accumulator<X>;
  const std::uint32_t first = RowVectors::first<each>();
  Packed<X, n> gate[each], up[each], dy[each];
  std::int64_t at[each];
#pragma unroll
  for (int v = 0; v < each; ++v) {
    const std::uint32_t i = vectors.here(first + v * warp_size);
    at[v] = std::int64_t{i} * n + std::int64_t{vectors.by_row(i)} * size;
    gate[v] = load_packed<n>(gate_up + at[v]);
    up[v] = load_packed<n>(gate_up + at[v] + size);
    dy[v] = load_packed<n>(dh + std::int64_t{i} * n);
  }
#pragma unroll
  for (int v = 0; v < each; ++v) {
    T dgate[n], dup[n];
#pragma unroll
    for (int k = 0; k < n; ++k) {
      const Gradient<T> g = swiglu_gradient<is_fast<X>>(gate[v].at(k), up[v].at(k), dy[v].at(k));
      dgate[k] = g.gate, dup[k] = g.up;
    }
    store_packed(dgate_up + at[v], pack<X>(dgate));
    store_packed(dgate_up + at[v] + size, pack<X>(dup));
  }
}

/// Calls f<n>() with n elements of 16 bytes where all rows consist of vectors of these, else with n = 1.
template <class X, class F, class... Tensors>
void visit_vectors(std::int64_t size, const F& f, const Tensors&... all) {
  constexpr int n = vector_length<X>;
  if ((is_vector_aligned<n>(pointer<X>(all), size) && ...))
    f(std::integral_constant<int, n>{});
  else
    f(std::integral_constant<int, 1>{});
}

}  // namespace

void swiglu_forward(const Stream& stream, const Tensor& gate_up_R2F, const Tensor& h_RF, std::int64_t rows) {
  const Span span(stream.timeline(), Work::experts, "swiglu_forward");
  check_swiglu(gate_up_R2F, h_RF, rows);
  const std::int64_t F = h_RF.dim(1);
  if (rows == 0 || F == 0) return;
  visit_float(h_RF.dtype, "swiglu", [&]<class X>(std::type_identity<X>) {
    visit_vectors<X>(
        F,
        [&]<int n>(std::integral_constant<int, n>) {
          const RowVectors vectors(rows, F / n);
          launch(on(stream), forward<n, X>, vectors.num_blocks(each), threads, 0, pointer<X>(gate_up_R2F),
                 pointer<X>(h_RF), vectors, static_cast<int>(F));
        },
        gate_up_R2F, h_RF);
  });
}

void swiglu_backward(const Stream& stream, const Tensor& dh_RF, const Tensor& gate_up_R2F, const Tensor& dgate_up_R2F,
                     std::int64_t rows) {
  const Span span(stream.timeline(), Work::experts, "swiglu_backward");
  check_swiglu(gate_up_R2F, dh_RF, rows);
  check_swiglu(dgate_up_R2F, dh_RF, rows);
  const std::int64_t F = dh_RF.dim(1);
  if (rows == 0 || F == 0) return;
  visit_float(dh_RF.dtype, "swiglu", [&]<class X>(std::type_identity<X>) {
    visit_vectors<X>(
        F,
        [&]<int n>(std::integral_constant<int, n>) {
          const RowVectors vectors(rows, F / n);
          launch(on(stream), backward<n, X>, vectors.num_blocks(each), threads, 0, pointer<X>(dh_RF),
                 pointer<X>(gate_up_R2F), pointer<X>(dgate_up_R2F), vectors, static_cast<int>(F));
        },
        dh_RF, gate_up_R2F, dgate_up_R2F);
  });
}

}  // namespace fourmi::cuda
