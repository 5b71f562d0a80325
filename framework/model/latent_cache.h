// Multi-head latent attention for one more token. The cache holds the latent and the shared rotary key only
// (kv_lora_rank + rope numbers a token and layer); attention runs in the absorbed form (DeepSeek-V2 report 2.1.3): the
// up-projection of keys is applied to the query, that of values to the attention's result, so that cached rows are
// never expanded.
//   Letters beside context.h's: P positions   C = kv_lora_rank + rope
#pragma once

#include "framework/model/mla.h"

namespace fourmi {

class LatentCache {
 public:
  LatentCache(const ModelSection& model, const ParameterStore& store, std::int64_t max_tokens, Arena& arena);

  /// y_1D = x + attention over the `length` cached tokens and x's own, which is added to layer `layer`'s rows. c holds
  /// x's position.
  void attend(const Context& c, const Mla& mla, std::size_t layer, std::int64_t length, const Tensor& x_1D,
              Mla::Saved& saved, const Tensor& y_1D);

 private:
  std::int64_t H_, nope_, rope_, V_, kv_rank_, q_rank_;
  std::vector<Slot> kv_b_;
  std::vector<Tensor> cache_PC_;  // per layer
  Tensor absorbed_1HC_, latent_1HC_, o_1HV_, lse_;
};

}  // namespace fourmi
