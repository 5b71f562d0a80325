// What fp8_peer.h prepares, and where: pure.
#pragma once

#include <cstdint>

#include "kernels/runtime/tensor.h"

namespace fourmi::cuda::library {

/// Where what is prepared lies in the scratch memory, in bytes.
struct Fp8Scratch {
  std::int64_t w_scales, x_scales, bytes;  ///< elements of w come first
};
constexpr Fp8Scratch fp8_scratch(std::int64_t M, std::int64_t N, std::int64_t K) {
  const auto up = [](std::int64_t n) { return (n + 255) / 256 * 256; };
  const std::int64_t w_scales = up(N * K);
  const std::int64_t x_scales = w_scales + up(ScaledFormat::num_blocks(N) * ScaledFormat::panel_scale_bytes(K));
  return {w_scales, x_scales, x_scales + up(4 * ScaledFormat::num_blocks(K) * M)};
}
/// Bytes that prepare() reads and writes.
constexpr std::int64_t fp8_prepared_bytes(std::int64_t M, std::int64_t N, std::int64_t K) {
  return 2 * (ScaledFormat::panel_bytes(N, K) + 4 * ScaledFormat::num_blocks(K) * M);
}

}  // namespace fourmi::cuda::library
