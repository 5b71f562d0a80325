#include "kernels/ops/rms_norm.h"

#include "kernels/cpu/run_rows.h"
#include "kernels/cpu/scaled_groups.h"
#include "kernels/numerics/lanes.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"
#include "kernels/runtime/working_memory.h"

namespace fourmi {
namespace {

/// The D normalised columns of a row [M, A].
template <class X>
struct Columns {
  X* data;
  std::int64_t stride;
  FOURMI_INLINE X* row(std::int64_t r) const { return data + r * stride; }
};

template <class X>
Columns<X> columns_of(const Tensor& t, std::int64_t first, std::int64_t size, const char* what) {
  const std::int64_t stride = t.dim(0) > 0 ? t.num_elements() / t.dim(0) : 0;
  FOURMI_CHECK(t.dim(0) == 0 || (0 <= first && first + size <= stride), "{} {}: columns [{}, {})", what,
               to_string(t.shape), first, first + size);
  return {t.as<X>() + first, stride};
}

template <class X, class T>
FOURMI_INLINE T rstd_of(const X* in, std::int64_t size, T epsilon) {
  return T{1} / square_root(lane_dot<T>(in, in, size) / static_cast<T>(size) + epsilon);
}

template <class X>
struct Forward {
  using T = Accumulator<X>;
  Columns<X> x, y;
  const T* weight;
  T* rstd;
  std::int64_t size;
  T epsilon;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t r = begin; r < end; ++r) {
      const X* in = x.row(r);
      X* out = y.row(r);
      const T scale = rstd_of(in, size, epsilon);
      for (std::int64_t d = 0; d < size; ++d) out[d] = narrow<X>(widen<T>(in[d]) * scale * weight[d]);
      rstd[r] = scale;
    }
  }
};

template <class X>
struct ForwardScaled {
  Columns<X> x, y;  // y.data null: absent
  const float8::ScaledRows& q;
  const float* weight;
  float* rstd;
  std::int64_t size;
  float epsilon;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    float* const values = WorkingMemory::mine().get<float>(WorkingUse::row, size);
    for (std::int64_t r = begin; r < end; ++r) {
      const X* in = x.row(r);
      const float scale = rstd_of(in, size, epsilon);
      for (std::int64_t d = 0; d < size; ++d) values[d] = widen<float>(in[d]) * scale * weight[d];
      rstd[r] = scale;
      q.write(r, values);
      if (y.data == nullptr) continue;
      X* out = y.row(r);
      for (std::int64_t d = 0; d < size; ++d) out[d] = narrow<X>(values[d]);
    }
  }
};

template <class X>
struct BackwardInput {
  using T = Accumulator<X>;
  Columns<X> dy, x, dx, residual;  // residual.data null: absent
  const T* weight;
  const T* rstd;
  std::int64_t size;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t r = begin; r < end; ++r) {
      const X* in = x.row(r);
      const X* up = dy.row(r);
      X* out = dx.row(r);
      const T* w = weight;
      const T sum = sum_by_lanes<T>(
          size, [=](T & lane, std::int64_t d)
                    __attribute__((always_inline)) { lane = fma(widen<T>(up[d]) * w[d], widen<T>(in[d]), lane); });
      const T scale = rstd[r], k = sum * scale * scale / static_cast<T>(size);
      if (residual.data == nullptr) {
        for (std::int64_t d = 0; d < size; ++d)
          out[d] = narrow<X>(scale * fma(-k, widen<T>(in[d]), widen<T>(up[d]) * w[d]));
      } else {
        const X* add = residual.row(r);
        for (std::int64_t d = 0; d < size; ++d)
          out[d] = narrow<X>(widen<T>(add[d]) + scale * fma(-k, widen<T>(in[d]), widen<T>(up[d]) * w[d]));
      }
    }
  }
};

}  // namespace

void rms_norm_forward(const Stream& stream, const RmsNorm& norm, const Tensor& x_MA, const Tensor& weight_D,
                      const Tensor& y_MB, const Tensor& rstd_M) {
  FOURMI_DOOR(rms_norm_forward, stream, norm, x_MA, weight_D, y_MB, rstd_M);
  const Span span(stream.timeline(), Work::norm, "rms_norm_forward");
  const std::int64_t rows = x_MA.dim(0), size = weight_D.num_elements();
  FOURMI_CHECK(y_MB.dim(0) == rows && rstd_M.num_elements() == rows && x_MA.dtype == y_MB.dtype, "x {}, y {}, rstd {}",
               to_string(x_MA.shape), to_string(y_MB.shape), to_string(rstd_M.shape));
  visit_float(x_MA.dtype, "rms_norm", [&]<class X>(std::type_identity<X>) {
    using T = Accumulator<X>;
    run_rows(stream, rows, grain_of(size),
             Forward<X>{columns_of<X>(x_MA, norm.x_column, size, "x"), columns_of<X>(y_MB, norm.y_column, size, "y"),
                        weight_D.as<T>(), rstd_M.as<T>(), size, static_cast<T>(norm.epsilon)});
  });
}

void rms_norm_forward(const Stream& stream, const RmsNorm& norm, const Tensor& x_MA, const Tensor& weight_D,
                      const Tensor& y_MB, const Tensor& q_MD, const Scaling& scaling, const Tensor& rstd_M,
                      QuantizeStatistics* stats) {
  FOURMI_DOOR(rms_norm_forward_scaled, stream, norm, x_MA, weight_D, y_MB, q_MD, scaling, rstd_M, stats);
  const Span span(stream.timeline(), Work::norm, "rms_norm_forward");
  const std::int64_t rows = x_MA.dim(0), size = weight_D.num_elements();
  FOURMI_CHECK(q_MD.shape == (Shape{rows, size}) && rstd_M.num_elements() == rows && (!y_MB || y_MB.dim(0) == rows),
               "x {}, y {}, q {}, rstd {}", to_string(x_MA.shape), to_string(y_MB.shape), to_string(q_MD.shape),
               to_string(rstd_M.shape));
  const float8::ScaledRows q(stream, q_MD, scaling, stats);
  float8::visit_input(x_MA, "rms_norm", [&]<class X>(std::type_identity<X>) {
    const auto y = y_MB ? columns_of<X>(y_MB, norm.y_column, size, "y") : Columns<X>{nullptr, 0};
    float8::run_scaled_rows(stream, stats, rows, grain_of(size),
                            ForwardScaled<X>{columns_of<X>(x_MA, norm.x_column, size, "x"), y, q, weight_D.as<float>(),
                                             rstd_M.as<float>(), size, static_cast<float>(norm.epsilon)});
  });
}

void rms_norm_backward_input(const Stream& stream, const RmsNorm& norm, const Tensor& dy_MB, const Tensor& x_MA,
                             const Tensor& weight_D, const Tensor& rstd_M, const Tensor& dx_MA,
                             const Tensor& residual_MA) {
  FOURMI_DOOR(rms_norm_backward_input, stream, norm, dy_MB, x_MA, weight_D, rstd_M, dx_MA, residual_MA);
  const Span span(stream.timeline(), Work::norm, "rms_norm_backward_input");
  const std::int64_t rows = x_MA.dim(0), size = weight_D.num_elements();
  FOURMI_CHECK(dy_MB.dim(0) == rows && rstd_M.num_elements() == rows && dx_MA.dim(0) == rows &&
                   (!residual_MA || residual_MA.num_elements() == dx_MA.num_elements()),
               "x {}, dy {}, dx {}, residual {}", to_string(x_MA.shape), to_string(dy_MB.shape), to_string(dx_MA.shape),
               to_string(residual_MA.shape));
  visit_float(x_MA.dtype, "rms_norm", [&]<class X>(std::type_identity<X>) {
    using T = Accumulator<X>;
    const auto residual =
        residual_MA ? columns_of<X>(residual_MA, norm.x_column, size, "residual") : Columns<X>{nullptr, 0};
    run_rows(stream, rows, grain_of(size),
             BackwardInput<X>{
                 columns_of<X>(dy_MB, norm.y_column, size, "dy"), columns_of<X>(x_MA, norm.x_column, size, "x"),
                 columns_of<X>(dx_MA, norm.x_column, size, "dx"), residual, weight_D.as<T>(), rstd_M.as<T>(), size});
  });
}

}  // namespace fourmi
