#include "framework/data/permutation.h"

#include "kernels/numerics/random.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

/// Every bit of x reaches every bit of the result (the finaliser of SplitMix64, Steele et al. 2014).
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

Permutation::Permutation(std::uint64_t seed, std::string_view source, std::int64_t epoch, std::int64_t n)
    : n_(static_cast<std::uint64_t>(n)) {
  FOURMI_CHECK(n >= 1 && epoch >= 0, "a permutation of {} in epoch {}", n, epoch);
  while (half_bits_ < 31 && (std::uint64_t{1} << (2 * half_bits_)) < n_) ++half_bits_;
  const RandomKey key = random_key(seed, "data order", source);
  for (std::uint64_t r = 0; r < keys_.size(); ++r)
    keys_[r] = random_bits(key, static_cast<std::uint64_t>(epoch) * num_rounds + r);
}

std::int64_t Permutation::operator()(std::int64_t i) const {
  FOURMI_CHECK(i >= 0 && static_cast<std::uint64_t>(i) < n_, "place {} of a permutation of {}", i, n_);
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  auto x = static_cast<std::uint64_t>(i);
  do {
    std::uint64_t left = x >> half_bits_, right = x & mask;
    for (const std::uint64_t key : keys_) {
      const std::uint64_t next = left ^ (mix(right ^ key) & mask);
      left = right;
      right = next;
    }
    x = (left << half_bits_) | right;
  } while (x >= n_);
  return static_cast<std::int64_t>(x);
}

}  // namespace fourmi
