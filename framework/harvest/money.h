// Money as whole numbers, so that sums are exact: 1e-12 of the currency, which is what one token costs at a price of
// 1e-6 a million tokens.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <string>

namespace fourmi::harvest {

using Money = std::int64_t;  ///< 1e-12 of the currency: up to nine million of it

inline Money money_of(double amount) {
  return static_cast<Money>(std::llround(amount * 1e12));
}

struct Prices {
  Money input_token = 0, output_token = 0;
  Money of(std::int64_t input_tokens, std::int64_t output_tokens) const {
    return input_token * input_tokens + output_token * output_tokens;
  }
};

/// `amount`: the price of a million tokens, kept to a millionth of the currency.
inline Money price_of_token(double amount) {
  return static_cast<Money>(std::llround(amount * 1e6));
}

inline double in_currency(Money money) {
  return static_cast<double>(money) / 1e12;
}

inline std::string text_of(Money money, const std::string& currency) {
  return fmt::format("{:.4f} {}", in_currency(money), currency);
}

}  // namespace fourmi::harvest
