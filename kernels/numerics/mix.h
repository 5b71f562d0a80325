// Integer mixing behind keys and digests: bijections of 64-bit words, so that no single change is ever lost.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace fourmi {

/// 2^64 / golden ratio, odd: successive multiples are spread evenly.
inline constexpr std::uint64_t golden_ratio_64 = 0x9e3779b97f4a7c15u;

/// A bijection of 64-bit words that spreads each input bit over all output bits (Stafford 2011, variant 13).
constexpr std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Takes a text into a hash: its length, then its bytes in little-endian words of eight, the last one padded with
/// zeros. Texts that are taken one after the other do not run into each other, because each brings its length.
inline std::uint64_t mix_text(std::uint64_t hash, std::string_view text) {
  hash = mix64(hash + golden_ratio_64 * (text.size() + 1));
  for (std::size_t i = 0; i < text.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + i, text.size() - i < 8 ? text.size() - i : 8);
    hash = mix64((hash ^ word) + golden_ratio_64);
  }
  return hash;
}

}  // namespace fourmi
