// SwiGLU into rows with scales, both ways. Bound by memory: forward reads 2 F elements and writes F bytes a row,
// backward reads 3 F and writes 2 F. A lane has eight neighbouring columns, so that groups are whole in a warp.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/row_vectors.h"
#include "kernels/cuda/swiglu.h"
#include "kernels/cuda/units_of_rows.h"
#include "kernels/ops/swiglu.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = RowVectors::threads, blocks = RowVectors::blocks;
/// Units that a lane quantises together: a scale costs its divisions once, in one of so many lanes.
template <class X>
constexpr int num_units = sizeof(X) == 2 ? 4 : 2;

/// Rows as units of eight columns, of which groups of 128 have 16.
RowVectors units_of(std::int64_t rows, std::int64_t columns) {
  return {rows, ceil_div(columns, 128) * 16};
}
/// The lane's v-th unit. Behind the last one: none, which has the last one's row.
__device__ Unit unit_of(const RowVectors& vectors, std::uint32_t first, int v) {
  const std::uint32_t i = first + v * warp_size, here = vectors.here(i), row = vectors.by_row(here);
  return {row, i == here ? static_cast<int>(here - row * vectors.of_row) * 8 : 1 << 30};
}

/// F is a multiple of 8, and eights begin at multiples of 16 bytes. Units behind the row's end have its last eight.
template <class X>
__global__ void __launch_bounds__(threads, blocks)
    forward_scaled(const X* __restrict__ gate_up, const ScaledRows h, const RowVectors vectors) {
  constexpr int n = num_units<X>;
  const std::uint32_t first = RowVectors::first<n>();
  Unit units[n];
  Packed<X, 8> gate[n], up[n];
#pragma unroll
  for (int v = 0; v < n; ++v) {
    units[v] = unit_of(vectors, first, v);
    const X* const from = gate_up + std::int64_t{units[v].row} * (2 * h.size) + min(units[v].column, h.size - 8);
    gate[v] = load_packed<8>(from);
    up[v] = load_packed<8>(from + h.size);
  }
  float value[n][8];
#pragma unroll
  for (int v = 0; v < n; ++v)
#pragma unroll
    for (int k = 0; k < 8; ++k) value[v][k] = swiglu<true>(gate[v].at(k), up[v].at(k));
  quantize_units_of_rows<true>(h, units, value);
}

/// Any F, any address.
template <class X>
__global__ void __launch_bounds__(threads, blocks)
    forward_scaled_any(const X* __restrict__ gate_up, const ScaledRows h, const RowVectors vectors) {
  const Unit units[1] = {unit_of(vectors, RowVectors::first<1>(), 0)};
  const X* const from = gate_up + std::int64_t{units[0].row} * (2 * h.size);
  float value[1][8];
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const int at = units[0].column + k;
    value[0][k] = at < h.size ? swiglu<true>(widen<float>(from[at]), widen<float>(from[h.size + at])) : 0;
  }
  quantize_units_of_rows<false>(h, units, value);
}

/// F consists of whole groups, so a lane has the gradients of eight gates and of their ups: a sigmoid serves both.
template <class X>
__global__ void __launch_bounds__(threads, blocks)
    backward_scaled(const X* __restrict__ dh, const X* __restrict__ gate_up, const ScaledRows dgate_up,
                    const RowVectors vectors) {
  constexpr int n = num_units<X> / 2;
  const int size = dgate_up.size / 2;
  const std::uint32_t first = RowVectors::first<n>();
  Unit units[2 * n];
  Packed<X, 8> gate[n], up[n], dy[n];
#pragma unroll
  for (int v = 0; v < n; ++v) {
    const Unit u = unit_of(vectors, first, v);
    // Rows are filled up to groups of 128, which those of mx need not have.
    const int column = min(u.column, size - 8), behind = u.column < size ? 0 : 1 << 30;
    units[v] = {u.row, column + behind}, units[v + n] = {u.row, column + size + behind};
    const std::int64_t row = std::int64_t{u.row} * size;
    const X* const from = gate_up + 2 * row + column;
    gate[v] = load_packed<8>(from);
    up[v] = load_packed<8>(from + size);
    dy[v] = load_packed<8>(dh + row + column);
  }
  float value[2 * n][8];
#pragma unroll
  for (int v = 0; v < n; ++v)
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const Gradient<float> g = swiglu_gradient<true, float>(gate[v].at(k), up[v].at(k), dy[v].at(k));
      value[v][k] = g.gate, value[v + n][k] = g.up;
    }
  quantize_units_of_rows<true>(dgate_up, units, value);
}

/// Any F, any address: a group may lie across the middle of a row. `whole`: F is a multiple of 8, and eights begin at
/// multiples of 16 bytes.
template <class X>
__global__ void __launch_bounds__(threads, blocks)
    backward_scaled_any(const X* __restrict__ dh, const X* __restrict__ gate_up, const ScaledRows dgate_up,
                        const RowVectors vectors, bool whole) {
  const int size = dgate_up.size / 2;
  const Unit units[1] = {unit_of(vectors, RowVectors::first<1>(), 0)};
  const int column = units[0].column;
  const std::int64_t row = std::int64_t{units[0].row} * size;
  float value[1][8] = {};
  if (whole && column < dgate_up.size) {  // eight of gates, or eight of ups
    const bool is_up = column >= size;
    const int at = is_up ? column - size : column;
    const X* const from = gate_up + 2 * row + at;
    const Packed<X, 8> gate = load_packed<8>(from), up = load_packed<8>(from + size),
                       dy = load_packed<8>(dh + row + at);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const Gradient<float> g = swiglu_gradient<true, float>(gate.at(k), up.at(k), dy.at(k));
      value[0][k] = is_up ? g.up : g.gate;
    }
  } else {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      if (column + k >= dgate_up.size) continue;
      const bool is_up = column + k >= size;
      const int at = is_up ? column + k - size : column + k;
      const X* const from = gate_up + 2 * row + at;
      const Gradient<float> g =
          swiglu_gradient<true, float>(widen<float>(from[0]), widen<float>(from[size]), widen<float>(dh[row + at]));
      value[0][k] = is_up ? g.up : g.gate;
    }
  }
  quantize_units_of_rows<false>(dgate_up, units, value);
}

template <class F>
void visit_input(const Tensor& x, const F& f) {
  if (x.dtype == DType::f32) return f(std::type_identity<float>{});
  FOURMI_CHECK(x.dtype == DType::bf16, "swiglu of {}", name_of(x.dtype));
  f(std::type_identity<bfloat16>{});
}

/// Rows of `size` that begin where load_packed<8> may read them.
template <class X>
bool has_eights(const X* p, std::int64_t size) {
  return is_vector_aligned<8>(p, size);
}

}  // namespace

void swiglu_forward(const Stream& stream, const Tensor& gate_up_R2F, const Tensor& h_RF, const Scaling& scaling,
                    std::int64_t rows, QuantizeStatistics* stats) {
  const Span span(stream.timeline(), Work::experts, "swiglu_forward");
  FOURMI_CHECK(!stats, "statistics of a producer on a device");
  check_swiglu(gate_up_R2F, h_RF, rows);
  if (rows == 0 || h_RF.dim(1) == 0) return;
  const ScaledRows h = scaled_rows(h_RF, scaling);
  const RowVectors units = units_of(rows, h.size);
  visit_input(gate_up_R2F, [&]<class X>(std::type_identity<X>) {
    const X* const gate_up = pointer<X>(gate_up_R2F);
    if (has_eights(gate_up, h.size))
      launch(on(stream), forward_scaled<X>, units.num_blocks(num_units<X>), threads, 0, gate_up, h, units);
    else
      launch(on(stream), forward_scaled_any<X>, units.num_blocks(1), threads, 0, gate_up, h, units);
  });
}

void swiglu_backward(const Stream& stream, const Tensor& dh_RF, const Tensor& gate_up_R2F, const Tensor& dgate_up_R2F,
                     const Scaling& scaling, std::int64_t rows, QuantizeStatistics* stats) {
  const Span span(stream.timeline(), Work::experts, "swiglu_backward");
  FOURMI_CHECK(!stats, "statistics of a producer on a device");
  check_swiglu(gate_up_R2F, dh_RF, rows);
  check_swiglu(dgate_up_R2F, dh_RF, rows);
  const std::int64_t F = dh_RF.dim(1);
  if (rows == 0 || F == 0) return;
  const ScaledRows dgate_up = scaled_rows(dgate_up_R2F, scaling);
  visit_input(dh_RF, [&]<class X>(std::type_identity<X>) {
    const X *const dh = pointer<X>(dh_RF), *const gate_up = pointer<X>(gate_up_R2F);
    const bool whole = has_eights(dh, F) && has_eights(gate_up, F);
    if (whole && F % dgate_up.group() == 0) {
      const RowVectors units = units_of(rows, F);
      launch(on(stream), backward_scaled<X>, units.num_blocks(num_units<X> / 2), threads, 0, dh, gate_up, dgate_up,
             units);
    } else {
      const RowVectors units = units_of(rows, 2 * F);
      launch(on(stream), backward_scaled_any<X>, units.num_blocks(1), threads, 0, dh, gate_up, dgate_up, units, whole);
    }
  });
}

}  // namespace fourmi::cuda
