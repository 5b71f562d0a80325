// SwiGLU both ways. Bound by memory: forward reads 2 F and writes F elements a row, backward reads 3 F and writes 2 F.
// A lane has eight neighbouring columns of gate and up, so that the quantised forms have whole groups in a warp.
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/row_threads.h"
#include "kernels/cuda/scaled_units.h"
#include "kernels/ops/swiglu.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {
namespace {

constexpr int threads = 256;

template <class X>
__global__ void __launch_bounds__(threads) forward(const X* __restrict__ gate_up, X* __restrict__ h, std::int64_t rows,
                                                   int size, int lanes_a_row, bool whole) {
  using T = Accumulator<X>;
  constexpr int n = vector_length<X>;
  const std::int64_t total = rows * lanes_a_row, step = std::int64_t{gridDim.x} * threads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x; i < total; i += step) {
    const std::int64_t row = i / lanes_a_row;
    const int column = static_cast<int>(i % lanes_a_row) * n;
    const X* const from = gate_up + row * 2 * size + column;
    if (whole) {
      const Vector<X, n> gate = load<n>(from), up = load<n>(from + size);
      Vector<X, n> out;
#pragma unroll
      for (int k = 0; k < n; ++k) out.value[k] = narrow<X>(silu(widen<T>(gate.value[k])) * widen<T>(up.value[k]));
      store<n>(h + row * size + column, out);
    } else {
      for (int k = 0; k < n && column + k < size; ++k)
        h[row * size + column + k] = narrow<X>(silu(widen<T>(from[k])) * widen<T>(from[size + k]));
    }
  }
}

template <class T>
struct Gradient {
  T gate, up;
};
template <class T>
__device__ Gradient<T> gradient(T g, T u, T dy) {
  const T s = sigmoid(g), activated = g * s;
  return {dy * u * fma(activated, T{1} - s, s), dy * activated};
}

template <class X>
__global__ void __launch_bounds__(threads)
    backward(const X* __restrict__ dh, const X* __restrict__ gate_up, X* __restrict__ dgate_up, std::int64_t rows,
             int size, int lanes_a_row, bool whole) {
  using T = Accumulator<X>;
  constexpr int n = vector_length<X>;
  const std::int64_t total = rows * lanes_a_row, step = std::int64_t{gridDim.x} * threads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * threads + threadIdx.x; i < total; i += step) {
    const std::int64_t row = i / lanes_a_row;
    const int column = static_cast<int>(i % lanes_a_row) * n;
    const X* const from = gate_up + row * 2 * size + column;
    X* const to = dgate_up + row * 2 * size + column;
    const X* const d = dh + row * size + column;
    if (whole) {
      const Vector<X, n> gate = load<n>(from), up = load<n>(from + size), dy = load<n>(d);
      Vector<X, n> dgate, dup;
#pragma unroll
      for (int k = 0; k < n; ++k) {
        const Gradient<T> g = gradient(widen<T>(gate.value[k]), widen<T>(up.value[k]), widen<T>(dy.value[k]));
        dgate.value[k] = narrow<X>(g.gate), dup.value[k] = narrow<X>(g.up);
      }
      store<n>(to, dgate);
      store<n>(to + size, dup);
    } else {
      for (int k = 0; k < n && column + k < size; ++k) {
        const Gradient<T> g = gradient(widen<T>(from[k]), widen<T>(from[size + k]), widen<T>(d[k]));
        to[k] = narrow<X>(g.gate), to[size + k] = narrow<X>(g.up);
      }
    }
  }
}

/// Sixteen lanes a group of 128 columns; a warp's lanes are all in the loop together.
template <class X>
__global__ void __launch_bounds__(threads)
    forward_scaled(const X* __restrict__ gate_up, const ScaledRows h, std::int64_t rows, bool whole) {
  const int size = h.size, lanes_a_row = (size + 127) / 128 * 16;
  const std::int64_t total = rows * lanes_a_row, step = std::int64_t{gridDim.x} * threads;
  for (std::int64_t first = std::int64_t{blockIdx.x} * threads; first < total; first += step) {
    const std::int64_t i = first + threadIdx.x, row = i / lanes_a_row;
    // From `size` on nothing is stored.
    const int column[1] = {i < total ? static_cast<int>(i % lanes_a_row) * 8 : size};
    const int valid = max(0, size - column[0]);
    float gate[8], up[8], v[1][8];
    const X* const from = gate_up + (valid > 0 ? row * 2 * size + column[0] : 0);
    if (whole && valid >= 8) {  // both are under way together
      load_eight(from, 8, true, gate);
      load_eight(from + size, 8, true, up);
    } else {
      load_eight(from, valid, false, gate);
      load_eight(from + size, valid, false, up);
    }
#pragma unroll
    for (int k = 0; k < 8; ++k) v[0][k] = k < valid ? silu(gate[k]) * up[k] : 0.0f;
    quantize_units(h, row, column, v);
  }
}

/// As above; rows of gradients are 2 F wide, and a group may lie across their middle.
template <class X>
__global__ void __launch_bounds__(threads) backward_scaled(const X* __restrict__ dh, const X* __restrict__ gate_up,
                                                           const ScaledRows dgate_up, std::int64_t rows, bool whole) {
  const int width = dgate_up.size, size = width / 2, lanes_a_row = (width + 127) / 128 * 16;
  const std::int64_t total = rows * lanes_a_row, step = std::int64_t{gridDim.x} * threads;
  for (std::int64_t first = std::int64_t{blockIdx.x} * threads; first < total; first += step) {
    const std::int64_t i = first + threadIdx.x, row = i / lanes_a_row;
    const int columns[1] = {i < total ? static_cast<int>(i % lanes_a_row) * 8 : width}, column = columns[0];
    const int valid = max(0, width - column);
    float v[1][8];
    const X* const g = gate_up + row * 2 * size;
    const X* const d = dh + row * size;
    if (whole && valid >= 8) {  // eight of gates, or eight of ups
      const bool is_up = column >= size;
      const int at = is_up ? column - size : column;
      float gate[8], up[8], dy[8];
      load_eight(g + at, 8, true, gate);
      load_eight(d + at, 8, true, dy);
      load_eight(g + size + at, 8, true, up);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const Gradient<float> both = gradient(gate[k], up[k], dy[k]);
        v[0][k] = is_up ? both.up : both.gate;
      }
    } else {
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        v[0][k] = 0;
        if (k >= valid) continue;
        const bool is_up = column + k >= size;
        const int at = is_up ? column + k - size : column + k;
        const Gradient<float> both = gradient(widen<float>(g[at]), widen<float>(g[size + at]), widen<float>(d[at]));
        v[0][k] = is_up ? both.up : both.gate;
      }
    }
    quantize_units(dgate_up, row, columns, v);
  }
}

unsigned blocks_for(const CudaStream& s, std::int64_t lanes) {
  return num_blocks(lanes, threads, 16 * s.card().num_multiprocessors);
}

void check(const Tensor& gate_up, const Tensor& h, std::int64_t rows) {
  FOURMI_CHECK(gate_up.dim(1) == 2 * h.dim(1) && 0 <= rows && rows <= gate_up.dim(0) && rows <= h.dim(0),
               "{} rows of gate_up {}, h {}", rows, to_string(gate_up.shape), to_string(h.shape));
}

/// Can all rows be moved by whole vectors?
template <class X>
bool are_whole(const Tensor& h, const Tensor& gate_up, const Tensor& dgate_up = {}) {
  const std::int64_t size = gate_up.dim(1) / 2;
  return (!h || has_whole_vectors(pointer<X>(h), size)) && has_whole_vectors(pointer<X>(gate_up), size) &&
         (!dgate_up || has_whole_vectors(pointer<X>(dgate_up), size));
}

template <class F>
void visit_input(const Tensor& x, const F& f) {
  if (x.dtype == DType::f32) return f(std::type_identity<float>{});
  FOURMI_CHECK(x.dtype == DType::bf16, "swiglu of {}", name_of(x.dtype));
  f(std::type_identity<bfloat16>{});
}

}  // namespace

void swiglu_forward(const Stream& stream, const Tensor& gate_up_R2F, const Tensor& h_RF, std::int64_t rows) {
  const Span span(stream.timeline(), Work::experts, "swiglu_forward");
  check(gate_up_R2F, h_RF, rows);
  if (rows == 0 || h_RF.dim(1) == 0) return;
  visit_float(h_RF.dtype, "swiglu", [&]<class X>(std::type_identity<X>) {
    const auto lanes = ceil_div(h_RF.dim(1), vector_length<X>);
    launch(on(stream), forward<X>, blocks_for(on(stream), rows * lanes), threads, 0, pointer<X>(gate_up_R2F),
           pointer<X>(h_RF), rows, static_cast<int>(h_RF.dim(1)), static_cast<int>(lanes),
           are_whole<X>(h_RF, gate_up_R2F));
  });
}

void swiglu_backward(const Stream& stream, const Tensor& dh_RF, const Tensor& gate_up_R2F, const Tensor& dgate_up_R2F,
                     std::int64_t rows) {
  const Span span(stream.timeline(), Work::experts, "swiglu_backward");
  check(gate_up_R2F, dh_RF, rows);
  check(dgate_up_R2F, dh_RF, rows);
  if (rows == 0 || dh_RF.dim(1) == 0) return;
  visit_float(dh_RF.dtype, "swiglu", [&]<class X>(std::type_identity<X>) {
    const auto lanes = ceil_div(dh_RF.dim(1), vector_length<X>);
    launch(on(stream), backward<X>, blocks_for(on(stream), rows * lanes), threads, 0, pointer<X>(dh_RF),
           pointer<X>(gate_up_R2F), pointer<X>(dgate_up_R2F), rows, static_cast<int>(dh_RF.dim(1)),
           static_cast<int>(lanes), are_whole<X>(dh_RF, gate_up_R2F, dgate_up_R2F));
  });
}

void swiglu_forward(const Stream& stream, const Tensor& gate_up_R2F, const Tensor& h_RF, const Scaling& scaling,
                    std::int64_t rows, QuantizeStatistics* stats) {
  const Span span(stream.timeline(), Work::experts, "swiglu_forward");
  FOURMI_CHECK(!stats, "statistics of a producer on a device");
  check(gate_up_R2F, h_RF, rows);
  if (rows == 0 || h_RF.dim(1) == 0) return;
  const ScaledRows h = scaled_rows(h_RF, scaling);
  visit_input(gate_up_R2F, [&]<class X>(std::type_identity<X>) {
    launch(on(stream), forward_scaled<X>, blocks_for(on(stream), rows * ceil_div(h.size, 128) * 16), threads, 0,
           pointer<X>(gate_up_R2F), h, rows, h.size % 8 == 0 && are_whole<X>({}, gate_up_R2F));
  });
}

void swiglu_backward(const Stream& stream, const Tensor& dh_RF, const Tensor& gate_up_R2F, const Tensor& dgate_up_R2F,
                     const Scaling& scaling, std::int64_t rows, QuantizeStatistics* stats) {
  const Span span(stream.timeline(), Work::experts, "swiglu_backward");
  FOURMI_CHECK(!stats, "statistics of a producer on a device");
  check(gate_up_R2F, dh_RF, rows);
  check(dgate_up_R2F, dh_RF, rows);
  if (rows == 0 || dh_RF.dim(1) == 0) return;
  const ScaledRows dgate_up = scaled_rows(dgate_up_R2F, scaling);
  visit_input(dh_RF, [&]<class X>(std::type_identity<X>) {
    launch(on(stream), backward_scaled<X>, blocks_for(on(stream), rows * ceil_div(dgate_up.size, 128) * 16), threads, 0,
           pointer<X>(dh_RF), pointer<X>(gate_up_R2F), dgate_up, rows,
           dh_RF.dim(1) % 8 == 0 && are_whole<X>(dh_RF, gate_up_R2F));
  });
}

}  // namespace fourmi::cuda
