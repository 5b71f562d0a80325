// Division of 32-bit numbers by one that is known before a kernel starts: three instructions on a GPU, which has none
// that divides integers (Granlund and Montgomery 1994, "Division by invariant integers using multiplication").
#pragma once

#include <bit>
#include <cstdint>

namespace fourmi::cuda {

struct Division {
  std::uint32_t multiplier;
  int shift;

  /// By d > 0, at most 2^31.
  explicit constexpr Division(std::uint32_t d)
      : multiplier(static_cast<std::uint32_t>((((std::uint64_t{1} << std::bit_width(d - 1)) - d) << 32) / d + 1)),
        shift(std::bit_width(d - 1)) {}

  /// n / d for n < 2^31, so that the sum does not wrap.
  constexpr std::uint32_t operator()(std::uint32_t n) const {
    return (static_cast<std::uint32_t>(std::uint64_t{n} * multiplier >> 32) + n) >> shift;
  }
};

}  // namespace fourmi::cuda
