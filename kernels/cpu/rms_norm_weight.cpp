// The weight gradient of RMSNorm: partials over rows, added in ascending order or exactly.
#include "kernels/cpu/partial_sums.h"
#include "kernels/cpu/run_rows.h"
#include "kernels/numerics/lanes.h"
#include "kernels/ops/door.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

constexpr std::int64_t chunk = 256;  // columns whose partial is held at once

/// Rows of this body are chunks of columns: a thread never takes a part of a column's sum.
template <class X, class W>
struct BackwardWeight {
  using T = Accumulator<X>;
  const X* dy;
  const X* x;
  std::int64_t dy_stride, x_stride;
  const T* rstd;
  W* dw;
  std::int64_t num_rows, size;
  Cuts cuts;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t c = begin; c < end; ++c) {
      const std::int64_t first = c * chunk, n = std::min(chunk, size - first);
      for (std::int64_t r = 0; r < num_rows;) {
        T partial[chunk] = {};
        const std::int64_t part = part_of(cuts, r);
        for (; r < num_rows && part_of(cuts, r) == part; ++r) {
          const X* up = dy + r * dy_stride + first;
          const X* in = x + r * x_stride + first;
          const T scale = rstd[r];
          for (std::int64_t d = 0; d < n; ++d) partial[d] = fma(widen<T>(up[d]), widen<T>(in[d]) * scale, partial[d]);
        }
        add_partial(dw + first, partial, n, cuts.refused);
      }
    }
  }
};

}  // namespace

void rms_norm_backward_weight(const Stream& stream, const RmsNorm& norm, const Tensor& dy_MB, const Tensor& x_MA,
                              const Tensor& rstd_M, const Tensor& dw_D, const Cuts& cuts) {
  FOURMI_DOOR(rms_norm_backward_weight, stream, norm, dy_MB, x_MA, rstd_M, dw_D, cuts);
  const Span span(stream.timeline(), Work::norm, "rms_norm_backward_weight");
  const std::int64_t rows = x_MA.dim(0), size = dw_D.num_elements();
  if (rows == 0) return;
  const std::int64_t x_stride = x_MA.num_elements() / rows, dy_stride = dy_MB.num_elements() / rows;
  FOURMI_CHECK(dy_MB.dim(0) == rows && rstd_M.num_elements() == rows && x_MA.dtype == dy_MB.dtype &&
                   norm.x_column + size <= x_stride && norm.y_column + size <= dy_stride,
               "x {} from column {}, dy {} from column {}, {} columns", to_string(x_MA.shape), norm.x_column,
               to_string(dy_MB.shape), norm.y_column, size);
  visit_float(x_MA.dtype, "rms_norm", [&]<class X>(std::type_identity<X>) {
    const auto run = [&]<class W>(W* dw) {
      run_rows(stream, (size + chunk - 1) / chunk, grain_of(rows * chunk),
               BackwardWeight<X, W>{dy_MB.as<X>() + norm.y_column, x_MA.as<X>() + norm.x_column, dy_stride, x_stride,
                                    rstd_M.as<Accumulator<X>>(), dw, rows, size, cuts});
    };
    if (dw_D.dtype == DType::fx128)
      run(dw_D.as<int128>());
    else
      run(dw_D.as<Accumulator<X>>());
  });
}

}  // namespace fourmi
