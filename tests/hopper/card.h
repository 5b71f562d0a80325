// What tests may ask of an emulated card (tests/cuda_on_cpu has a twin of this file); a real one does as it likes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace fourmi::test {

/// Threads take turns, and copies are done, in an order of the seed from here on.
inline void shuffle_card(std::uint64_t) {}
/// Copies that kernels have begun and not waited for.
inline std::size_t copies_left_on_card() {
  return 0;
}

/// Products of e4m3 elements that threads of Hopper's warpgroups have begun so far, so that it is known which kernels a
/// call ran; and products of bf16.
inline std::optional<std::int64_t> hopper_products_on_card() {
  return {};
}
inline std::optional<std::int64_t> hopper_bf16_products_on_card() {
  return {};
}

/// What FP8 units cut off in their short accumulator (docs/numerics.md "FP8 products" 4), of the magnitudes of a sum's
/// terms: up to 33 addends a cut of 2^-13 of the largest.
inline constexpr double hopper_cut = 0x1p-8;

}  // namespace fourmi::test
