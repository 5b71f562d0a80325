// Floats as integers of the same order, for maxima: the compiler vectorises those of integers, not of floats. NaN
// counts as minus infinity.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/numerics/target.h"

namespace fourmi {

template <class T>
using OrderKey = std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>;

/// Below the key of every value: what is excluded, or already taken.
template <class T>
inline constexpr OrderKey<T> excluded_key = std::numeric_limits<OrderKey<T>>::min();

/// key(a) < key(b) if and only if a < b; -0 and +0 have one key.
template <class T>
FOURMI_INLINE OrderKey<T> order_key(T value) {
  value = value == value ? value + T{0} : -std::numeric_limits<T>::infinity();
  const auto bits = std::bit_cast<OrderKey<T>>(value);
  return bits < 0 ? bits ^ std::numeric_limits<OrderKey<T>>::max() : bits;
}

}  // namespace fourmi
