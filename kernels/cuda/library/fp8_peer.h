// FP8 products by cuBLASLt from our formats: the peer that hopper/fp8_gemm.cu and fp8_wgrad.cu are timed against, and a
// second opinion about what they compute. No operation calls them.
//
// cuBLASLt wants e4m3 elements with one stride, and scales apart from them (matmul.h), which our rows and panels are
// not: prepare() brings them there. The gradient of weights reads ColumnScaled as it lies on a card.
#pragma once

#include <cstdint>

#include "kernels/cuda/library/fp8_layout.h"
#include "kernels/cuda/stream.h"

namespace fourmi::cuda::library {

/// y[M, N] = x[M, K] w[N, K]^T, one rounding. Pointers of the device.
struct Fp8Peer {
  const void* x = nullptr;  ///< e4m3_rows
  const void* w = nullptr;  ///< e4m3_panels
  void* y = nullptr;        ///< bf16 or f32
  DType dtype = DType::bf16;
  std::int64_t M = 0, N = 0, K = 0;
  void* scratch = nullptr;  ///< scratch_bytes() of them, aligned to 256
};

/// K a multiple of 16, M and N of 4 (N of 8 for bf16), addresses of 16.
bool fits(const Fp8Peer&);
/// Once for operands that stay: elements and scales of w, scales of x.
void prepare(const CudaStream&, const Fp8Peer&);
/// After prepare(). False where cuBLASLt has no algorithm. Throws Error(environment) where there is no cuBLASLt.
bool multiply(const CudaStream&, const Fp8Peer&);

/// dw[N, K] += dy[M, N]^T x[M, K], operands as hopper::Fp8Gradient without groups has them.
struct Fp8GradientPeer {
  const void *dy = nullptr, *x = nullptr;                 ///< [N, S], [K, S]
  const float *dy_scales = nullptr, *x_scales = nullptr;  ///< [S / 128, N], [S / 128, K]
  float* dw = nullptr;
  std::int64_t N = 0, K = 0, S = 0;
};
/// N and K multiples of 4, S of 128, addresses of 16.
bool fits(const Fp8GradientPeer&);
bool multiply(const CudaStream&, const Fp8GradientPeer&);

}  // namespace fourmi::cuda::library
