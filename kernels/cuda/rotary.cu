// Rotary position embedding in place. Bound by memory: the rotated columns are read and written. A thread has as many
// pairs as sixteen bytes have elements.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/rotary_pairs.h"
#include "kernels/ops/rotary.h"
#include "kernels/runtime/visit.h"

namespace fourmi::cuda {

void rotary_apply(const Stream& stream, const Rotary& rotary, const Tensor& table_PH2, const Tensor& positions_M,
                  const Tensor& x_MHW) {
  const Span span(stream.timeline(), Work::attention, "rotary_apply");
  const std::int64_t rows = x_MHW.dim(0), heads = x_MHW.dim(1), width = x_MHW.dim(2);
  FOURMI_CHECK(0 <= rotary.column && rotary.column + 2 * table_PH2.dim(1) <= width, "x {}, {} columns from {}",
               to_string(x_MHW.shape), 2 * table_PH2.dim(1), rotary.column);
  visit_float(x_MHW.dtype, "rotary", [&]<class X>(std::type_identity<X>) {
    const auto angles = angles_of<Accumulator<X>>(table_PH2, positions_M, rows);
    X* const x = pointer<X>(x_MHW) + rotary.column;
    const int w = static_cast<int>(width);
    launch_turn_rows(on(stream),
                     HeadRows<X, X>{{x, w, x, w, static_cast<int>(heads)}, heads * width, heads * width, rows}, angles,
                     rotary.layout, rotary.inverse);
  });
}

}  // namespace fourmi::cuda
