// The accumulator of Hopper's FP8 tensor cores, imitated (DeepSeek-V3 report 3.3.2; docs/numerics.md "FP8 products"):
// 32 products at a time, all of them and the sum so far aligned to the largest exponent and cut to 13 fraction bits.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace fourmi::linear {

/// Sums of products of e4m3 values. These are multiples of 2^-18, and what is left of one that is cut is too: all of it
/// is integer arithmetic in this unit.
class HopperAccumulator {
 public:
  static constexpr std::int64_t products_at_once = 32;
  static constexpr int fraction_bits = 13;

  /// Adds a[s] b[s], s < count; one alignment for each 32 of them.
  void add(const float* a, const float* b, std::int64_t count) {
    for (std::int64_t s = 0; s < count; s += products_at_once)
      add_aligned(a + s, b + s, std::min(products_at_once, count - s));
  }
  /// Exact: 33 numbers of 14 bits at one place need 20 at most.
  float value() const {
    return is_nan_ ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(sum_) * 0x1p-18F;
  }

 private:
  void add_aligned(const float* a, const float* b, std::int64_t count) {
    for (std::int64_t s = 0; s < count; ++s) is_nan_ = is_nan_ || std::isnan(a[s]) || std::isnan(b[s]);
    if (is_nan_) return;
    std::int64_t products[products_at_once], largest = std::abs(sum_);
    for (std::int64_t s = 0; s < count; ++s) {
      products[s] = std::int64_t{static_cast<std::int32_t>(a[s] * 0x1p9F)} * static_cast<std::int32_t>(b[s] * 0x1p9F);
      largest = std::max(largest, std::abs(products[s]));
    }
    const int exponent = std::bit_width(static_cast<std::uint64_t>(largest)) - 1;
    const std::int64_t last_bit = std::int64_t{1} << std::max(0, exponent - fraction_bits);
    sum_ -= sum_ % last_bit;  // towards zero
    for (std::int64_t s = 0; s < count; ++s) sum_ += products[s] - products[s] % last_bit;
  }

  std::int64_t sum_ = 0;
  bool is_nan_ = false;
};

}  // namespace fourmi::linear
