// Rows with scales from floats. Bound by memory: 2 or 4 bytes an element are read and 1 + 1/32 written (a scale of f32
// for 128 elements, or of e8m0 for 32), that is 3.03 bytes an element from bf16 and 5.03 from f32; x is read once. Some
// 12 instructions an element of a bf16's budget of 25, because the card rounds to e4m3 itself.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/quantize_rows.h"
#include "kernels/cuda/quantize_squares.h"
#include "kernels/cuda/quantize_statistics.h"

namespace fourmi::cuda {

void quantize(const Stream& stream, const Tensor& x, const Tensor& q, const Scaling& scaling,
              QuantizeStatistics* stats) {
  const Span span(stream.timeline(), Work::quantise, "quantize");
  check_quantized(x, q, "quantize");
  const std::int64_t rows = num_rows(q);
  if (q.dtype == DType::e4m3_panels) {
    const Squares squares = squares_of(q, scaling);
    quantize_squares(on(stream), x, squares, 0, squares.num_panels, {});
  } else if (rows > 0) {
    launch_quantize_rows(on(stream), x, scaled_rows(q, scaling), 0, rows, OwnScales{});
  }
  if (stats) count_quantized(on(stream), x, q, 0, rows, *stats);
}

}  // namespace fourmi::cuda
