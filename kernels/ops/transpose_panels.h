// The transposed copy of weights in panels: for products that sum along what lies contiguous (docs/precision.md,
// "fp8-block").
//
// Shapes   w [N, K] or [E, N, K], wt [K, N] or [E, K, N], both e4m3_panels (kernels/runtime/tensor.h).
// Mathematics   wt[k, n] = w[n, k]. A block of 128 x 128 shares a scale and stays a block: elements are moved and
//   scales copied, nothing is rounded. So dx = dy w is linear_forward's dy wt^T, on the CPU to the bit.
// Memory   wt takes bytes_of(e4m3_panels, its shape), which may differ from w's by scales' padding, and does not
// overlap
//   w. Zeros come behind the scales of a panel. Units: none.
#pragma once

#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

void transpose_panels(const Stream&, const Tensor& w, const Tensor& wt);

/// What is asked of both devices: E matrices [N, K], or an error.
struct PanelShape {
  std::int64_t E, N, K;
};
inline PanelShape panels_to_transpose(const Tensor& w, const Tensor& wt) {
  const int rank = w.shape.rank;
  FOURMI_CHECK(w.dtype == DType::e4m3_panels && wt.dtype == DType::e4m3_panels && (rank == 2 || rank == 3) &&
                   wt.shape.rank == rank && wt.dim(rank - 2) == w.dim(rank - 1) &&
                   wt.dim(rank - 1) == w.dim(rank - 2) && (rank == 2 || wt.dim(0) == w.dim(0)),
               "transpose_panels of {} {} into {} {}", name_of(w.dtype), to_string(w.shape), name_of(wt.dtype),
               to_string(wt.shape));
  return {rank == 3 ? w.dim(0) : 1, w.dim(rank - 2), w.dim(rank - 1)};
}

}  // namespace fourmi
