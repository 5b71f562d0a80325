#include "kernels/ops/swiglu.h"

#include "kernels/cpu/run_rows.h"
#include "kernels/cpu/scaled_groups.h"
#include "kernels/numerics/lanes.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"
#include "kernels/runtime/working_memory.h"

namespace fourmi {
namespace {

/// h[f] = silu(gate[f]) * up[f]; gate_up is a row of both.
template <class X, class Y>
FOURMI_INLINE void forward_row(const X* gate_up, std::int64_t size, Y* h) {
  using T = Accumulator<X>;
  const X* gate = gate_up;
  const X* up = gate_up + size;
  for (std::int64_t f = 0; f < size; ++f) h[f] = narrow<Y>(silu(widen<T>(gate[f])) * widen<T>(up[f]));
}

template <class X, class Y>
FOURMI_INLINE void backward_row(const X* dh, const X* gate_up, std::int64_t size, Y* dgate_up) {
  using T = Accumulator<X>;
  const X* gate = gate_up;
  const X* up = gate_up + size;
  Y* dgate = dgate_up;
  Y* dup = dgate_up + size;
  for (std::int64_t f = 0; f < size; ++f) {
    const T g = widen<T>(gate[f]), u = widen<T>(up[f]), dy = widen<T>(dh[f]);
    const T s = sigmoid(g), activated = g * s;
    dgate[f] = narrow<Y>(dy * u * fma(activated, T{1} - s, s));
    dup[f] = narrow<Y>(dy * activated);
  }
}

template <class X>
struct Forward {
  const X* gate_up;
  X* h;
  std::int64_t size;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t r = begin; r < end; ++r) forward_row(gate_up + r * 2 * size, size, h + r * size);
  }
};

template <class X>
struct Backward {
  const X* dh;
  const X* gate_up;
  X* dgate_up;
  std::int64_t size;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t r = begin; r < end; ++r)
      backward_row(dh + r * size, gate_up + r * 2 * size, size, dgate_up + r * 2 * size);
  }
};

template <class X>
struct ForwardScaled {
  const X* gate_up;
  const float8::ScaledRows& h;
  std::int64_t size;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    float* const values = WorkingMemory::mine().get<float>(WorkingUse::row, size);
    for (std::int64_t r = begin; r < end; ++r) {
      forward_row(gate_up + r * 2 * size, size, values);
      h.write(r, values);
    }
  }
};

template <class X>
struct BackwardScaled {
  const X* dh;
  const X* gate_up;
  const float8::ScaledRows& dgate_up;
  std::int64_t size;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    float* const values = WorkingMemory::mine().get<float>(WorkingUse::row, 2 * size);
    for (std::int64_t r = begin; r < end; ++r) {
      backward_row(dh + r * size, gate_up + r * 2 * size, size, values);
      dgate_up.write(r, values);
    }
  }
};

std::int64_t check_shapes(const Tensor& gate_up, const Tensor& h, std::int64_t rows) {
  const std::int64_t size = h.dim(1);
  FOURMI_CHECK(gate_up.dim(1) == 2 * size, "gate_up {}, h {}", to_string(gate_up.shape), to_string(h.shape));
  FOURMI_CHECK(0 <= rows && rows <= gate_up.dim(0) && rows <= h.dim(0), "{} rows of gate_up {}, h {}", rows,
               to_string(gate_up.shape), to_string(h.shape));
  return size;
}

std::int64_t check(const Tensor& gate_up, const Tensor& h, std::int64_t rows) {
  FOURMI_CHECK(gate_up.dtype == h.dtype, "gate_up {}, h {}", name_of(gate_up.dtype), name_of(h.dtype));
  return check_shapes(gate_up, h, rows);
}

}  // namespace

void swiglu_forward(const Stream& stream, const Tensor& gate_up_R2F, const Tensor& h_RF, std::int64_t rows) {
  FOURMI_DOOR(swiglu_forward, stream, gate_up_R2F, h_RF, rows);
  const Span span(stream.timeline(), Work::experts, "swiglu_forward");
  const std::int64_t size = check(gate_up_R2F, h_RF, rows);
  visit_float(h_RF.dtype, "swiglu", [&]<class X>(std::type_identity<X>) {
    run_rows(stream, rows, grain_of(size), Forward<X>{gate_up_R2F.as<X>(), h_RF.as<X>(), size});
  });
}

void swiglu_backward(const Stream& stream, const Tensor& dh_RF, const Tensor& gate_up_R2F, const Tensor& dgate_up_R2F,
                     std::int64_t rows) {
  FOURMI_DOOR(swiglu_backward, stream, dh_RF, gate_up_R2F, dgate_up_R2F, rows);
  const Span span(stream.timeline(), Work::experts, "swiglu_backward");
  const std::int64_t size = check(gate_up_R2F, dh_RF, rows);
  check(dgate_up_R2F, dh_RF, rows);
  visit_float(dh_RF.dtype, "swiglu", [&]<class X>(std::type_identity<X>) {
    run_rows(stream, rows, grain_of(size), Backward<X>{dh_RF.as<X>(), gate_up_R2F.as<X>(), dgate_up_R2F.as<X>(), size});
  });
}

void swiglu_forward(const Stream& stream, const Tensor& gate_up_R2F, const Tensor& h_RF, const Scaling& scaling,
                    std::int64_t rows, QuantizeStatistics* stats) {
  FOURMI_DOOR(swiglu_forward_scaled, stream, gate_up_R2F, h_RF, scaling, rows, stats);
  const Span span(stream.timeline(), Work::experts, "swiglu_forward");
  const std::int64_t size = check_shapes(gate_up_R2F, h_RF, rows);
  const float8::ScaledRows h(stream, h_RF, scaling, stats);
  float8::visit_input(gate_up_R2F, "swiglu", [&]<class X>(std::type_identity<X>) {
    float8::run_scaled_rows(stream, stats, rows, grain_of(size), ForwardScaled<X>{gate_up_R2F.as<X>(), h, size});
  });
}

void swiglu_backward(const Stream& stream, const Tensor& dh_RF, const Tensor& gate_up_R2F, const Tensor& dgate_up_R2F,
                     const Scaling& scaling, std::int64_t rows, QuantizeStatistics* stats) {
  FOURMI_DOOR(swiglu_backward_scaled, stream, dh_RF, gate_up_R2F, dgate_up_R2F, scaling, rows, stats);
  const Span span(stream.timeline(), Work::experts, "swiglu_backward");
  const std::int64_t size = check(gate_up_R2F, dh_RF, rows);
  check_shapes(dgate_up_R2F, dh_RF, rows);
  const float8::ScaledRows dgate_up(stream, dgate_up_R2F, scaling, stats);
  float8::visit_input(dh_RF, "swiglu", [&]<class X>(std::type_identity<X>) {
    float8::run_scaled_rows(stream, stats, rows, grain_of(size),
                            BackwardScaled<X>{dh_RF.as<X>(), gate_up_R2F.as<X>(), dgate_up, size});
  });
}

}  // namespace fourmi
