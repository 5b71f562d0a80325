// Where the student begins to write in a sample of the data, and how far it may.
//
// The prompt of a sample without a mask is its first distill.on_policy.prompt_tokens tokens, that of a conversation all
// before the first token that is learned. In packed text the student writes to the sample's end as the data would:
// behind an end of document the next one opens. Without packing its text ends with that token, or with the special
// token that ends the data's own answer.
#pragma once

#include <functional>

#include "framework/data/batch.h"
#include "framework/data/windows.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

struct OwnPrompt {
  std::int64_t tokens = 0;                    ///< the sample's first so many
  std::int64_t most = 0;                      ///< tokens to be written; 0: the sample stays the data's
  std::int32_t end = -1;                      ///< ends the text besides the end of document; -1: none
  std::int64_t targets = 0, mtp_targets = 0;  ///< that the data's sample has
};

/// `sample`: alone in its batch. `learns_a_part`: Loader's. `is_special`: a token of the tokenizer that no text holds.
OwnPrompt prompt_of(const Batch& sample, const WindowShape& shape, bool learns_a_part, const OnPolicySection& recipe,
                    const std::function<bool(std::int32_t)>& is_special);

/// What the student's token is as an input: behind the last token of a document stands the one that opens the next.
inline std::int32_t as_input(const WindowShape& shape, std::int32_t token) {
  return shape.packing && shape.closing >= 0 && token == shape.closing ? shape.opening : token;
}
/// Does this input open a document, whose rows see none before it?
inline bool opens_document(const WindowShape& shape, std::int32_t input) {
  return shape.packing && !shape.cross_document_attention && input == shape.opening;
}

}  // namespace fourmi
