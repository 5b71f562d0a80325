// Writing text: one token at a time with a cache. MLA caches its latent and the shared rotary key only (kv_lora_rank + rope numbers a
// token and layer) and attends in the absorbed form (DeepSeek-V2 report 2.1.3): the up-projection of keys is applied to the query, that
// of values to the attention's result, so that cached rows are never expanded.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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
  void attention(const Stream&, const Context&, std::size_t layer, const Tensor& x_1D);

  const Model* model_;
  const ParameterStore* store_;
  std::int64_t max_tokens_, length_ = 0;
  std::int64_t H_, nope_, rope_, V_, kv_rank_, q_rank_, q_width_;
  std::vector<Slot> kv_b_;
  std::vector<Tensor> cache_PC_;  // per layer [P, kv_rank + rope]
  Block::Saved dense_, moe_;
  Head::Saved head_;
  Tensor x_, y_, absorbed_1HC_, latent_1HC_, o_1HV_, lse_, logits_, ids_;
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
