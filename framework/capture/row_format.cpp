#include "framework/capture/row_format.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/runtime/error.h"

namespace fourmi {

namespace {

constexpr int exponent_bits = 5, lowest_exponent = -31;

int fraction_bits(const CacheFormat& f) {
  return 32 - exponent_bits - f.id_bits();
}

/// The probability in units of the format: exponent and fraction as one whole number, which grows with it; below the
/// least one a unit is that of the least exponent.
std::uint32_t place_of(const CacheFormat& f, double probability, double rounding) {
  const int bits = fraction_bits(f);
  if (!(probability > 0)) return 0;
  int exponent = std::clamp(std::ilogb(probability), lowest_exponent, 0);
  const double scaled = std::ldexp(probability, bits - exponent);  // below the least exponent less than 2^bits
  auto units = static_cast<std::int64_t>(std::floor(scaled + rounding));
  if (units >= std::int64_t{2} << bits) units >>= 1, ++exponent;
  // Without subnormal numbers: what is not whole in the least exponent is there or not.
  const std::int64_t one = std::int64_t{1} << bits;
  if (units < one) return 0;
  const std::int64_t place = (std::int64_t{exponent} - lowest_exponent) * one + (units - one);
  const std::int64_t most = (std::int64_t{1} << (bits + exponent_bits)) - 1;
  // 2^-31 exactly is where nothing stands.
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(place, 1, most));
}

}  // namespace

int CacheFormat::id_bits() const {
  return std::max(
      9, static_cast<int>(std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(1, vocab_size - 1)))));
}

std::string name_of(CacheFormat::Kind kind) {
  return kind == CacheFormat::Kind::top_k ? "top-k" : "sampled";
}

std::uint32_t pack(const CacheFormat& f, const KnownToken& token) {
  const std::uint32_t place = place_of(f, token.probability, 0.5);
  return place == 0 ? 0 : place << f.id_bits() | static_cast<std::uint32_t>(token.id);
}

std::uint32_t pack_by_chance(const CacheFormat& f, const KnownToken& token, std::uint32_t random) {
  const double uniform = (static_cast<double>(random) + 0.5) * 0x1p-32, least = std::ldexp(1.0, lowest_exponent);
  // Below the least: that one, as often as keeps the mean.
  if (token.probability < least) {
    if (uniform * least >= token.probability) return 0;
    return pack(f, {token.id, least});
  }
  const std::uint32_t place = place_of(f, token.probability, uniform);
  return place << f.id_bits() | static_cast<std::uint32_t>(token.id);
}

KnownToken unpack(const CacheFormat& f, std::uint32_t packed) {
  const int bits = fraction_bits(f), id_bits = f.id_bits();
  const std::uint32_t place = packed >> id_bits;
  if (place == 0) return {};
  const auto id = static_cast<std::int32_t>(packed & ((std::uint32_t{1} << id_bits) - 1));
  const std::uint32_t exponent = (place >> bits) + (127 + lowest_exponent),
                      fraction = place & ((std::uint32_t{1} << bits) - 1);
  return {id, static_cast<double>(std::bit_cast<float>(exponent << 23 | fraction << (23 - bits)))};
}

}  // namespace fourmi
