#include "framework/tokenizer/special_token.h"

#include <algorithm>

#include "framework/tokenizer/bpe.h"

namespace fourmi {

bool is_special_token(const Tokenizer& tokenizer, std::int32_t token) {
  if (token == tokenizer.end_of_document()) return true;
  const auto* bpe = dynamic_cast<const BpeTokenizer*>(&tokenizer);
  if (!bpe) return false;
  const std::vector<AddedToken>& added = bpe->definition().added_tokens;
  return std::any_of(added.begin(), added.end(), [&](const AddedToken& t) { return t.special && t.id == token; });
}

}  // namespace fourmi
