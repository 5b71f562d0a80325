// Grouped-query attention for one more token: keys and values of all tokens so far are kept, 2 G head_dim numbers a
// token and layer.
#pragma once

#include "framework/model/gqa.h"

namespace fourmi {

class KeyValueCache {
 public:
  KeyValueCache(const ModelSection& model, const ParameterStore& store, std::int64_t max_tokens, Arena& arena);

  /// y_1D = x + attention over the `length` cached tokens and x's own, which is added to layer `layer`'s rows. c holds
  /// x's position.
  void attend(const Context& c, const Gqa& gqa, std::size_t layer, std::int64_t length, const Tensor& x_1D,
              Gqa::Saved& saved, const Tensor& y_1D);

 private:
  std::vector<Tensor> keys_PGQ_, values_PGQ_;  // per layer
  Tensor key_begin_;
};

}  // namespace fourmi
