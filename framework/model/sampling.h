// The next token, by chance.
#pragma once

#include <cstdint>
#include <span>

namespace fourmi {

struct Sampling {
  double temperature = 1.0;  ///< 0: always the likeliest
  double top_p = 1.0;        ///< smallest set of tokens that holds this much probability
  std::uint64_t seed = 0;
};

/// The `index`-th token of a sampled text. Ids of `banned_from` and above are never chosen (unused vocabulary).
std::int32_t sample(std::span<const double> logits, const Sampling&, std::int64_t index, std::int64_t banned_from);

}  // namespace fourmi
