// What a cache keeps of a teacher's distribution at one position, in 4 bytes a token of the vocabulary and 4 more:
//
//   top-k     the k likeliest tokens, likeliest first, and the mass of all others (f32): 4 k + 4 bytes, 260 at k = 64.
//   sampled   n tokens whose expectation is the whole distribution, and its entropy in nats (f32): 48 bytes at n = 11.
//
// A token is 32 bits: the id in the lower id_bits = max(9, ceil(log2 vocab_size)), its probability above them as a
// float without sign, 5 bits of exponent (2^-31 .. 1) and 27 - id_bits of fraction; 0 stands for nothing.
#pragma once

#include <cstdint>
#include <string>

namespace fourmi {

struct CacheFormat {
  enum class Kind : std::uint8_t { top_k, sampled };
  Kind kind = Kind::top_k;
  std::int64_t entries = 64;    ///< tokens of a position
  std::int64_t vocab_size = 0;  ///< ids below it

  int id_bits() const;
  std::int64_t row_bytes() const { return 4 * entries + 4; }
  bool operator==(const CacheFormat&) const = default;
};
std::string name_of(CacheFormat::Kind kind);  ///< "top-k", "sampled"

struct KnownToken {
  std::int32_t id = -1;
  double probability = 0;
};

/// Rounds to the nearest probability that the format has; what rounds to nothing is 0.
std::uint32_t pack(const CacheFormat& format, const KnownToken& token);
/// Up or down by chance, for uniform `random`, so that the expectation is the probability.
std::uint32_t pack_by_chance(const CacheFormat& format, const KnownToken& token, std::uint32_t random);
/// id -1 where there is nothing.
KnownToken unpack(const CacheFormat& format, std::uint32_t packed);

}  // namespace fourmi
