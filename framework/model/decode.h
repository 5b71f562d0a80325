// Writing text: tokens of some texts at once, each with its part of a cache, of latents (latent_cache.h) or of keys and
// values (key_value_cache.h). What a text's logits are does not depend on the texts beside it, to the bit.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/model/key_value_cache.h"
#include "framework/model/latent_cache.h"
#include "framework/model/model.h"
#include "framework/model/prefix_fields.h"

namespace fourmi {

struct DecoderSizes {
  std::int64_t texts = 1;       ///< at once
  std::int64_t max_tokens = 0;  ///< positions of each
  std::int64_t rows = 1;        ///< tokens that a step takes at most, of all texts together
  std::int64_t logit_rows = 1;  ///< of these, how many may ask for logits
};

/// The next tokens of one text.
struct DecoderRun {
  std::int64_t text = 0;
  std::span<const std::int32_t> tokens;
  std::int64_t logits = 1;  ///< of its last so many tokens they are wanted
};

class Decoder {
 public:
  /// Memory comes from the arena. The model knows max_tokens positions.
  Decoder(const Model& model, const ParameterStore& store, const DecoderSizes& sizes, Arena& arena);

  /// Takes more tokens; a text has one run. The logits (vocab_size entries a row, widened to double) are of the tokens
  /// that follow, in the order of runs and tokens; they stay until the next step.
  std::span<const double> step(const Stream&, std::span<const DecoderRun> runs);
  /// The same for one token of text 0.
  std::span<const double> next(const Stream&, std::int32_t token);

  const DecoderSizes& sizes() const { return sizes_; }
  std::int64_t num_tokens(std::int64_t text = 0) const { return lengths_[static_cast<std::size_t>(text)]; }
  void clear(std::int64_t text = 0) { lengths_[static_cast<std::size_t>(text)] = 0; }

 private:
  std::int64_t place(std::span<const DecoderRun> runs);
  Context fill(const Stream&, std::span<const DecoderRun> runs, std::int64_t num_rows);
  std::int64_t select(const Stream&, std::span<const DecoderRun> runs, const Tensor& x_MD);

  const Model* model_;
  const ParameterStore* store_;
  DecoderSizes sizes_;
  std::int64_t stride_;  ///< cache rows from one text to the next: whole blocks of attention
  std::vector<std::int64_t> lengths_;
  std::vector<CacheRun> runs_;
  std::optional<LatentCache> latents_;  // one of the two, by the family
  std::optional<KeyValueCache> keys_values_;
  PrefixFields<Block> dense_, moe_;
  Head::Saved head_;
  Tensor x_, y_, selected_, logits_, ids_;
  std::vector<double> result_;
};

}  // namespace fourmi
