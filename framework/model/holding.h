// What a rank holds of a model: along its depth the layers of its stages, and what comes before and after them (from
// the stage map), and of each tensor its shares. Parameter table and models read it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "framework/recipe/recipe.h"
#include "parallel/share.h"

namespace fourmi {

struct Holding {
  std::vector<std::int64_t> layers;  ///< ascending; without the multi-token-prediction layer
  bool embedding = false;            ///< it embeds the tokens of the first layer
  bool head = false;                 ///< final norm and output head
  bool mtp = false;                  ///< the multi-token-prediction layer
  bool embedding_is_shared = false;  ///< another rank of the pipeline has a copy of the embedding's table
  Shares shares = {};                ///< of tensors that other axes cut

  static Holding whole(const ModelSection& model) {
    Holding all{.layers = std::vector<std::int64_t>(static_cast<std::size_t>(model.num_hidden_layers)),
                .embedding = true,
                .head = true,
                .mtp = model.num_nextn_predict_layers > 0};
    std::iota(all.layers.begin(), all.layers.end(), 0);
    return all;
  }
  bool has_layer(std::int64_t layer) const { return std::binary_search(layers.begin(), layers.end(), layer); }
  /// The table is read by the first stage, by multi-token prediction, and by a head that is tied to it.
  bool has_embedding_table(const ModelSection& model) const {
    return embedding || mtp || (head && model.tie_word_embeddings);
  }
};

}  // namespace fourmi
