// Which products of e4m3 and of bf16 operands Hopper's kernels can do, by their sizes: for the choice among kernels
// (kernels/cuda/linear_choice.h) and for tests, without a card.
#pragma once

#include <cstdint>

#include "kernels/cuda/hopper/plan.h"
#include "kernels/runtime/dtype.h"

namespace fourmi::cuda::hopper {

/// Besides, addresses are multiples of 16.
template <class... Pointer>
bool are_aligned(Pointer... p) {
  return ((reinterpret_cast<std::uintptr_t>(p) % 16 == 0) && ...);
}

/// Of y[M, N] = x[M, K] w[N, K]^T, or of groups of such rows.
struct ProductSizes {
  std::int64_t M = 0, N = 0, K = 0, groups = 1;
  DType out = DType::bf16;
};
/// Of dw[N, K] += dy[M, N]^T x[M, K]; of e4m3 operands with S places (fp8_gemm.h).
struct GradientSizes {
  std::int64_t M = 0, N = 0, K = 0, S = 0, groups = 1;
};

/// N and K are multiples of 16 (rows of operands and results are moved 16 bytes at a time); M is any number.
constexpr bool fits(const ProductSizes& s) {
  constexpr std::int64_t most = std::int64_t{1} << 31;
  const auto is_size = [](std::int64_t n) { return n > 0 && n < most && n % 16 == 0; };
  return (s.out == DType::bf16 || s.out == DType::f32) && is_size(s.N) && is_size(s.K) && 0 <= s.M && s.M < most &&
         0 < s.groups && s.groups <= most_groups && (s.M / tile_rows + s.groups) * (s.N / panel_columns + 1) < most / 2;
}

/// N and K are multiples of 4 (scales are moved 16 bytes at a time), S of 128 and not below M.
constexpr bool fits(const GradientSizes& s) {
  constexpr std::int64_t most = std::int64_t{1} << 31;
  const auto is_size = [](std::int64_t n) { return n > 0 && n < most && n % 4 == 0; };
  return is_size(s.N) && is_size(s.K) && 0 <= s.M && s.M <= s.S && s.S < most && s.S % step == 0 && 0 < s.groups &&
         s.groups <= most_groups && s.groups * (s.N / tile_rows + 1) * (s.K / panel_columns + 1) < most / 2;
}

/// Of bf16 operands: N and K are multiples of 8 (rows are moved 16 bytes at a time); M is any number.
constexpr bool bf16_fits(const ProductSizes& s) {
  constexpr std::int64_t most = std::int64_t{1} << 31;
  const auto is_size = [](std::int64_t n) { return n > 0 && n < most && n % 8 == 0; };
  return (s.out == DType::bf16 || s.out == DType::f32) && is_size(s.N) && is_size(s.K) && 0 <= s.M && s.M < most &&
         0 < s.groups && s.groups <= most_groups && (s.M / tile_rows + s.groups) * (s.N / panel_columns + 1) < most / 2;
}
constexpr bool bf16_fits(const GradientSizes& s) {
  constexpr std::int64_t most = std::int64_t{1} << 31;
  const auto is_size = [](std::int64_t n) { return n > 0 && n < most && n % 8 == 0; };
  return is_size(s.N) && is_size(s.K) && 0 <= s.M && s.M < most && 0 < s.groups && s.groups <= most_groups &&
         s.groups * (s.N / tile_rows + 1) * (s.K / panel_columns + 1) < most / 2;
}

}  // namespace fourmi::cuda::hopper
