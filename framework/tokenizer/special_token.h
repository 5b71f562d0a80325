// Tokens that no text holds.
#pragma once

#include "framework/tokenizer/tokenizer.h"

namespace fourmi {

/// Does it mark something instead of standing for text: a special added token, or the end of a document?
bool is_special_token(const Tokenizer& tokenizer, std::int32_t token);

}  // namespace fourmi
