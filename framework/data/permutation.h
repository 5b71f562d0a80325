// A pseudo-random order of n things with random access and no memory: a Feistel network over the next power of four,
// walked until it falls below n (Black and Rogaway 2002, "cycle walking").
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace fourmi {

class Permutation {
 public:
  /// The order of one source in one epoch: a pure function of the arguments. n >= 1.
  Permutation(std::uint64_t seed, std::string_view source, std::int64_t epoch, std::int64_t n);
  /// Where the i-th lies, 0 <= i < n. A bijection of [0, n).
  std::int64_t operator()(std::int64_t i) const;

 private:
  static constexpr int num_rounds = 6;
  std::uint64_t n_;
  int half_bits_ = 1;
  std::array<std::uint64_t, num_rounds> keys_;
};

}  // namespace fourmi
