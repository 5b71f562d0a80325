// Bound by memory: what fp8_prepared_bytes() says, mostly one copy of w.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/library/fp8_peer.h"
#include "kernels/cuda/library/libraries.h"

namespace fourmi::cuda::library {
namespace {

constexpr int threads = 256;

/// [M][L] behind rows of elements becomes [L][M]. Neighbouring threads have neighbouring rows.
__global__ void __launch_bounds__(threads) transpose_scales(const std::byte* __restrict__ first, std::int64_t stride,
                                                            float* __restrict__ to, std::int64_t M, int L) {
  const std::int64_t row = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  if (row >= M) return;
  const auto* const from = reinterpret_cast<const float*>(first + row * stride);
#pragma unroll 4
  for (int i = 0; i < L; ++i) to[i * M + row] = from[i];
}

bool aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

void copy_lines(const CudaStream& stream, std::byte* to, std::int64_t to_stride, const std::byte* from,
                std::int64_t from_stride, std::int64_t bytes, std::int64_t count) {
  if (count == 0 || bytes == 0) return;
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  check(cudaMemcpy2DAsync(to, size(to_stride), from, size(from_stride), size(bytes), size(count),
                          cudaMemcpyDeviceToDevice, stream.handle()),
        "panels");
}

}  // namespace

bool fits(const Fp8Peer& p) {
  return (p.dtype == DType::bf16 || p.dtype == DType::f32) && p.M > 0 && p.N > 0 && p.K > 0 && p.K % 16 == 0 &&
         trouble(matmul_of_scaled(p.M, p.N, p.K, p.dtype)) == nullptr && aligned(p.x) && aligned(p.w) && aligned(p.y);
}

void prepare(const CudaStream& stream, const Fp8Peer& p) {
  FOURMI_CHECK(fits(p), "a product of {} x {} x {}", p.M, p.N, p.K);
  constexpr std::int64_t block = ScaledFormat::block;
  const Fp8Scratch at = fp8_scratch(p.M, p.N, p.K);
  auto* const scratch = static_cast<std::byte*>(p.scratch);
  const auto* const w = static_cast<const std::byte*>(p.w);
  const std::int64_t scale_bytes = ScaledFormat::panel_scale_bytes(p.K), panel = ScaledFormat::panel_bytes(block, p.K);
  const std::int64_t whole = p.N / block, left = p.N % block;
  copy_lines(stream, scratch, block * p.K, w, panel, block * p.K, whole);
  copy_lines(stream, scratch + at.w_scales, scale_bytes, w + block * p.K, panel, scale_bytes, whole);
  if (left > 0) {
    copy_lines(stream, scratch + whole * block * p.K, left * p.K, w + whole * panel, left * p.K, left * p.K, 1);
    copy_lines(stream, scratch + at.w_scales + whole * scale_bytes, scale_bytes, w + whole * panel + left * p.K,
               scale_bytes, scale_bytes, 1);
  }
  launch(stream, transpose_scales, static_cast<unsigned>(ceil_div(p.M, threads)), threads, 0,
         static_cast<const std::byte*>(p.x) + p.K, ScaledFormat::row_bytes(DType::e4m3_rows, p.K),
         reinterpret_cast<float*>(scratch + at.x_scales), p.M, static_cast<int>(ScaledFormat::num_blocks(p.K)));
}

bool multiply(const CudaStream& stream, const Fp8Peer& p) {
  FOURMI_CHECK(fits(p), "a product of {} x {} x {}", p.M, p.N, p.K);
  const Fp8Scratch at = fp8_scratch(p.M, p.N, p.K);
  const auto* const scratch = static_cast<const std::byte*>(p.scratch);
  const MatmulOperands operands{.a = scratch,
                                .b = p.x,
                                .c = nullptr,
                                .d = p.y,
                                .a_scales = reinterpret_cast<const float*>(scratch + at.w_scales),
                                .b_scales = reinterpret_cast<const float*>(scratch + at.x_scales)};
  return stream.libraries().need_cublaslt().multiply(stream.handle(), matmul_of_scaled(p.M, p.N, p.K, p.dtype),
                                                     operands,
                                                     stream.workspace<std::byte>(CublasLtPlans::scratch_bytes));
}

bool fits(const Fp8GradientPeer& p) {
  return p.N > 0 && p.K > 0 && p.S > 0 && p.S % ScaledFormat::block == 0 &&
         trouble(matmul_of_columns(p.N, p.K, p.S)) == nullptr && aligned(p.dy) && aligned(p.x) &&
         aligned(p.dy_scales) && aligned(p.x_scales) && aligned(p.dw);
}

bool multiply(const CudaStream& stream, const Fp8GradientPeer& p) {
  FOURMI_CHECK(fits(p), "a gradient of {} x {} over {}", p.N, p.K, p.S);
  const MatmulOperands operands{
      .a = p.x, .b = p.dy, .c = p.dw, .d = p.dw, .a_scales = p.x_scales, .b_scales = p.dy_scales};
  return stream.libraries().need_cublaslt().multiply(stream.handle(), matmul_of_columns(p.N, p.K, p.S), operands,
                                                     stream.workspace<std::byte>(CublasLtPlans::scratch_bytes));
}

}  // namespace fourmi::cuda::library
