// What stands before a text: data.begin_of_text. A document of training opens with a token; which one a model knows
// texts to begin with, its tokenizer says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "framework/recipe/recipe.h"
#include "framework/tokenizer/tokenizer.h"

namespace fourmi {

/// As data.begin_of_text, what transformers puts before a text (add_special_tokens): the token that the
/// TemplateProcessing of the file's post_processor has before a sequence; `none` where that is nothing. Beside a
/// tokenizer.json transformers (5.23.0) does not ask add_bos_token of tokenizer_config.json, nor does this. Throws
/// Error(input) naming file and key.
std::string begin_of_text_in(const std::filesystem::path& tokenizer_json);
/// The same of such a file's text, which messages call `place`.
std::string begin_of_text_in(const std::string& text, const std::string& place);

/// The token that data.begin_of_text stands for; nothing for `none`. Throws Error(usage) where the tokenizer does not
/// have it as one token.
std::optional<std::int32_t> begin_of_text(const DataSection& data, const Tokenizer& tokenizer);

/// The tokens of a text that is to be gone on with: `begin`, and its own. None of either: the end of a document,
/// because a model needs something to go on from.
struct TextPrompt {
  std::vector<std::int32_t> tokens{};
  std::size_t num_opening = 0;  ///< of these, how many stand before the text
};
TextPrompt text_prompt(std::string_view text, std::optional<std::int32_t> begin, const Tokenizer& tokenizer);

}  // namespace fourmi
