// Writing text: one token at a time with a cache, of latents (latent_cache.h) or of keys and values
// (key_value_cache.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/model/key_value_cache.h"
#include "framework/model/latent_cache.h"
#include "framework/model/model.h"

namespace fourmi {

class Decoder {
 public:
  /// At most `max_tokens` positions. Memory comes from the arena.
  Decoder(const Model& model, const ParameterStore& store, std::int64_t max_tokens, Arena& arena);

  /// Takes one more token; the returned logits (vocab entries, widened to double) are for the token after it.
  const std::vector<double>& next(const Stream&, std::int32_t token);
  std::int64_t num_tokens() const { return length_; }
  std::int64_t max_tokens() const { return max_tokens_; }
  void clear() { length_ = 0; }

 private:
  const Model* model_;
  const ParameterStore* store_;
  std::int64_t max_tokens_, length_ = 0;
  std::optional<LatentCache> latents_;  // one of the two, by the family
  std::optional<KeyValueCache> keys_values_;
  Block::Saved dense_, moe_;
  Head::Saved head_;
  Tensor x_, y_, logits_, ids_;
  std::vector<double> result_;
};

struct Sampling {
  double temperature = 1.0;  ///< 0: always the likeliest
  double top_p = 1.0;        ///< smallest set of tokens that holds this much probability
  std::uint64_t seed = 0;
};

/// The `index`-th token of a sampled text. Ids of `banned_from` and above are never chosen (unused vocabulary).
std::int32_t sample(const std::vector<double>& logits, const Sampling&, std::int64_t index, std::int64_t banned_from);

}  // namespace fourmi
