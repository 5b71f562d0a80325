// The tokenizer that a recipe names.
#pragma once

#include <memory>

#include "framework/recipe/recipe.h"
#include "framework/tokenizer/tokenizer.h"

namespace fourmi {

/// By data.tokenizer. Throws Error(usage) for a name that is not known, and if a model of `model_vocab_size` rows has
/// fewer than the tokenizer's ids.
std::unique_ptr<Tokenizer> make_tokenizer(const DataSection& data, std::int64_t model_vocab_size);

}  // namespace fourmi
