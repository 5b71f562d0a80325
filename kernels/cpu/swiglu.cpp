#include "kernels/ops/swiglu.h"

#include "kernels/cpu/run_rows.h"
#include "kernels/numerics/lanes.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

template <class X>
struct Forward {
  using T = Accumulator<X>;
  const X* gate_up;
  X* h;
  std::int64_t size;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t r = begin; r < end; ++r) {
      const X* gate = gate_up + r * 2 * size;
      const X* up = gate + size;
      X* out = h + r * size;
      for (std::int64_t f = 0; f < size; ++f) out[f] = narrow<X>(silu(widen<T>(gate[f])) * widen<T>(up[f]));
    }
  }
};

template <class X>
struct Backward {
  using T = Accumulator<X>;
  const X* dh;
  const X* gate_up;
  X* dgate_up;
  std::int64_t size;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t r = begin; r < end; ++r) {
      const X* gate = gate_up + r * 2 * size;
      const X* up = gate + size;
      const X* d = dh + r * size;
      X* dgate = dgate_up + r * 2 * size;
      X* dup = dgate + size;
      for (std::int64_t f = 0; f < size; ++f) {
        const T g = widen<T>(gate[f]), u = widen<T>(up[f]), dy = widen<T>(d[f]);
        const T s = sigmoid(g), activated = g * s;
        dgate[f] = narrow<X>(dy * u * fma(activated, T{1} - s, s));
        dup[f] = narrow<X>(dy * activated);
      }
    }
  }
};

std::int64_t check(const Tensor& gate_up, const Tensor& h, std::int64_t rows) {
  const std::int64_t size = h.dim(1);
  FOURMI_CHECK(gate_up.dim(1) == 2 * size && gate_up.dtype == h.dtype, "gate_up {} {}, h {} {}", name_of(gate_up.dtype),
               to_string(gate_up.shape), name_of(h.dtype), to_string(h.shape));
  FOURMI_CHECK(0 <= rows && rows <= gate_up.dim(0) && rows <= h.dim(0), "{} rows of gate_up {}, h {}", rows,
               to_string(gate_up.shape), to_string(h.shape));
  return size;
}

}  // namespace

void swiglu_forward(const Stream& stream, const Tensor& gate_up_R2F, const Tensor& h_RF, std::int64_t rows) {
  const Span span(stream.timeline(), Work::experts, "swiglu_forward");
  const std::int64_t size = check(gate_up_R2F, h_RF, rows);
  visit_float(h_RF.dtype, "swiglu", [&]<class X>(std::type_identity<X>) {
    run_rows(stream, rows, grain_of(size), Forward<X>{gate_up_R2F.as<X>(), h_RF.as<X>(), size});
  });
}

void swiglu_backward(const Stream& stream, const Tensor& dh_RF, const Tensor& gate_up_R2F, const Tensor& dgate_up_R2F,
                     std::int64_t rows) {
  const Span span(stream.timeline(), Work::experts, "swiglu_backward");
  const std::int64_t size = check(gate_up_R2F, dh_RF, rows);
  check(dgate_up_R2F, dh_RF, rows);
  visit_float(dh_RF.dtype, "swiglu", [&]<class X>(std::type_identity<X>) {
    run_rows(stream, rows, grain_of(size), Backward<X>{dh_RF.as<X>(), gate_up_R2F.as<X>(), dgate_up_R2F.as<X>(), size});
  });
}

}  // namespace fourmi
