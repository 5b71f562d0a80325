// Groups of 128 x 128: panels of weights, and blocks whose scale stands in each of their rows.
#pragma once

#include "kernels/cuda/quantize_elements.h"

namespace fourmi::cuda {

/// Matrices of N rows and K columns, one after another, cut in panels of 128 rows.
struct Squares {
  std::uint8_t* data = nullptr;
  std::int64_t N = 0, stride = 0;  ///< stride: bytes from row to row
  int K = 0;
  std::int64_t panel_bytes = 0, matrix_bytes = 0;
  std::int64_t num_panels = 0, in_matrix = 0;  ///< of all matrices, of one
  bool panels = true;                          ///< a panel's scales stand behind its rows; else each row's behind it
  ScaleKind kind = ScaleKind::f32;
  std::uint32_t floor = 0;

  /// The panel that begins with this row; or the one behind the last.
  std::int64_t at_row(std::int64_t row, const char* what) const {
    const std::int64_t in = row % N;
    FOURMI_CHECK(in % ScaledFormat::block == 0, "{}: row {} of matrices of {} rows is inside a block", what, row, N);
    return row / N * in_matrix + in / ScaledFormat::block;
  }
};

/// Of e4m3_panels; or of e4m3_rows as one matrix.
Squares squares_of(const Tensor& q, const Scaling& scaling);

/// Panels [first, first + count) of q = x: each square by its own amax, or where `given` has any by that of the run
/// that its rows are in.
void quantize_squares(const CudaStream& stream, const Tensor& x, const Squares& q, std::int64_t first,
                      std::int64_t count, const GivenScales& given);

}  // namespace fourmi::cuda
