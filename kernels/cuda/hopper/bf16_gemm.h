// Products of bf16 operands on Hopper's tensor cores: forward of linear maps, their input gradient, and the gradient of
// weights, for groups of rows above all. kernels/cuda/linear_choice.h decides when. A sum is one chain of products of
// 16 elements, ascending, in f32 as tensor cores add. An output's bits depend on its own row and column (a gradient's:
// on its group's rows) alone, not on how many other rows there are, or the card.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace fourmi::cuda::hopper {

/// y[M, N] = residual[M, N] + x[M, K] w, one rounding, with w [N, K] (y = x w^T), or turned: [K, N]. With offsets rows
/// [offsets[g], offsets[g + 1]) of x and y against matrix g of w's groups. Pointers of the device.
struct Bf16Product {
  const void *x = nullptr, *w = nullptr;
  void* y = nullptr;               ///< bf16 or f32
  const void* residual = nullptr;  ///< of y's dtype, null: none; may be y
  DType dtype = DType::bf16;       ///< y's
  bool turned = false;
  std::int64_t M = 0, N = 0, K = 0;
  /// groups + 1 ascending entries, the last one at most M; rows beyond it are not written. Null: one group, all rows.
  const std::int32_t* offsets = nullptr;
  std::int64_t groups = 1;
};

/// Can bf16_product() do this? Its sizes are such (fits.h) and its addresses multiples of 16.
bool fits(const Bf16Product&);
void bf16_product(const CudaStream&, const Bf16Product&);

/// dw[N, K] += dy[M, N]^T x[M, K], or with offsets dw[g] += the same over rows [offsets[g], offsets[g + 1]), dw
/// [groups, N, K]. Groups neither begin at certain rows nor are padded; what is in nobody's rows is not used, whatever
/// it is. Pointers of the device.
struct Bf16Gradient {
  const void *dy = nullptr, *x = nullptr;
  float* dw = nullptr;
  std::int64_t M = 0, N = 0, K = 0;
  const std::int32_t* offsets = nullptr;  ///< as above
  std::int64_t groups = 1;
};

bool fits(const Bf16Gradient&);
void bf16_gradient(const CudaStream&, const Bf16Gradient&);

}  // namespace fourmi::cuda::hopper
