// Which tokens of a text are in the loss, from which of its bytes are: a token is if it begins inside of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "framework/tokenizer/tokenizer.h"

namespace fourmi {

/// For each of `ids`, which encoding `text` gave, whether it begins in one of `spans` (bytes, ascending). The text of
/// the end-of-document token is `end_of_document` (its decoding is empty). Nothing if the tokens cannot be laid on the
/// text: a tokenizer that changes it (normalizes), and a span whose beginning or end is inside of a word.
std::optional<std::vector<bool>> mask_tokens(const std::string& text, std::span<const std::int32_t> ids,
                                             std::span<const std::pair<std::size_t, std::size_t>> spans,
                                             const Tokenizer& tokenizer, Encoder& encoder,
                                             const std::string& end_of_document);

}  // namespace fourmi
