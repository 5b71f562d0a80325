// Grouped-query attention for the next tokens of some texts: keys and values of all tokens so far are kept, 2 G
// head_dim numbers a token and layer.
//   Letters beside context.h's: P rows of the cache
#pragma once

#include "framework/model/cache_runs.h"
#include "framework/model/gqa.h"

namespace fourmi {

class KeyValueCache {
 public:
  KeyValueCache(const ModelSection& model, const ParameterStore& store, const CacheSizes& sizes, Arena& arena);

  /// y_MD = x + attention over each run's cached tokens and its rows of x up to the one that asks; the rows' keys and
  /// values are added to layer `layer`'s. c holds x's positions, and ranges of keys counted from each run's base.
  void attend(const Context& c, const Gqa& gqa, std::size_t layer, CacheRuns runs, const Tensor& x_MD, Gqa::Saved&,
              const Tensor& y_MD);

 private:
  std::int64_t text_rows_;
  std::vector<Tensor> keys_PGQ_, values_PGQ_;  // per layer
  Tensor key_begin_M_;
};

}  // namespace fourmi
