// Products of e4m3 operands on Hopper's tensor cores: forward of linear maps, their input gradient through transposed
// weights, and the gradient of weights. kernels/cuda/linear.cu decides when. Sums are as tensor cores add
// (docs/numerics.md "FP8 products" 4) over each 128 elements, then promoted by one fma each, ascending, in f32. An
// output's bits depend on its own row and column alone, not on M, other rows, or the card.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace fourmi::cuda::hopper {

/// y[M, N] = residual[M, N] + x[M, K] w[N, K]^T, one rounding; or with offsets rows [offsets[g], offsets[g + 1]) of x
/// and y against matrix g of w [groups, N, K]. Pointers of the device.
struct Fp8Product {
  const void* x = nullptr;         ///< e4m3_rows
  const void* w = nullptr;         ///< e4m3_panels
  void* y = nullptr;               ///< bf16 or f32
  const void* residual = nullptr;  ///< of y's dtype, null: none; may be y
  DType dtype = DType::bf16;       ///< y's
  std::int64_t M = 0, N = 0, K = 0;
  /// groups + 1 ascending entries, the last one at most M; rows beyond it are not written. Null: one group, all rows.
  const std::int32_t* offsets = nullptr;
  std::int64_t groups = 1;
};

/// Can fp8_product() do this? Its sizes are such (fits.h) and its addresses multiples of 16.
bool fits(const Fp8Product&);
void fp8_product(const CudaStream&, const Fp8Product&);

/// dw[N, K] += dy[M, N]^T x[M, K], or with offsets dw[g] += the same over rows [offsets[g], offsets[g + 1]), dw
/// [groups, N, K]. Operands are ColumnScaled with groups of 128 rows, which begin anew with each of offsets, as they
/// lie on a card: elements [N, S] and [K, S], scales [S / 128, N] and [S / 128, K]. Pointers of the device.
struct Fp8Gradient {
  const void *dy = nullptr, *x = nullptr;
  const float *dy_scales = nullptr, *x_scales = nullptr;
  float* dw = nullptr;
  std::int64_t M = 0, N = 0, K = 0, S = 0;
  const std::int32_t* offsets = nullptr;  ///< as above
  std::int64_t groups = 1;
};

/// Alike; S is not less than the groups of rows take, which the host cannot see.
bool fits(const Fp8Gradient&);
void fp8_gradient(const CudaStream&, const Fp8Gradient&);

}  // namespace fourmi::cuda::hopper
