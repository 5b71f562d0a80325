// e^x of what is not above zero, as softmax has it, where its largest has been subtracted: exp's bits in fewer
// instructions, which is what a card's time is made of there.
#pragma once

#include "kernels/numerics/math.h"

namespace fourmi {

/// exp(x) to the bit for x <= 0, and NaN for NaN.
template <class T>
FOURMI_INLINE T exp_of_negative(T x) {
  if constexpr (sizeof(T) != 4) {
    return exp(x);
  } else {
    using C = detail::MathOf<T>;
    x = x < C::exp_low ? C::exp_low : x;
    const T shifted = fma(x, C::log2_e, C::round_magic);  // its low bits hold n = round(x / ln 2)
    const T n = shifted - C::round_magic;
    const T r = fma(-n, C::ln2_low, fma(-n, C::ln2_high, x));
    const T y = T{1} + fma(r * r, detail::polynomial(C::exp_terms(), r), r);
    // n is -150 at least: y 2^(n + 32) is normal and exact, and the other factor rounds once.
    static_assert(std::bit_cast<std::uint32_t>(C::round_magic) << C::mantissa == 0);
    const std::uint32_t factor =
        (std::bit_cast<std::uint32_t>(shifted) << C::mantissa) + (std::uint32_t{127 + 32} << C::mantissa);
    return y * std::bit_cast<T>(factor) * 0x1p-32F;
  }
}

}  // namespace fourmi
