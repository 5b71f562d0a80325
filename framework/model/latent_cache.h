// Multi-head latent attention for the next tokens of some texts. The cache holds the latent and the shared rotary key
// only (kv_lora_rank + rope numbers a token and layer); attention runs in the absorbed form (DeepSeek-V2 report 2.1.3):
// the up-projection of keys is applied to the query, that of values to the attention's result, so that cached rows are
// never expanded.
//   Letters beside context.h's: P rows of the cache   C = kv_lora_rank + rope   L = kv_lora_rank
#pragma once

#include "framework/model/cache_runs.h"
#include "framework/model/mla.h"

namespace fourmi {

class LatentCache {
 public:
  LatentCache(const ModelSection& model, const ParameterStore& store, const CacheSizes& sizes, Arena& arena);

  /// y_MD = x + attention over each run's cached tokens and its rows of x up to the one that asks; the rows' latents
  /// are added to layer `layer`'s. c holds x's positions, and ranges of keys counted from each run's base.
  void attend(const Context& c, const Mla& mla, std::size_t layer, CacheRuns runs, const Tensor& x_MD, Mla::Saved&,
              const Tensor& y_MD);

 private:
  void remember(const Context& c, std::size_t layer, CacheRuns runs, const Mla::Saved&);
  void absorb(const Context& c, const Tensor& up, const Tensor& q_MHQ, const Tensor& absorbed_MHC);
  void expand(const Context& c, const Tensor& up, const Tensor& latent_MHC, const Tensor& o_MHV);

  std::int64_t H_, nope_, rope_, V_, kv_rank_, q_rank_, text_rows_;
  std::vector<Slot> kv_b_;
  std::vector<Tensor> cache_PC_;  // per layer
  Tensor row_MC_, absorbed_MHC_, latent_MHC_, o_MHV_, lse_MH_;
  Tensor nope_MN_, latent_ML_, value_MV_;  // of one head
};

}  // namespace fourmi
