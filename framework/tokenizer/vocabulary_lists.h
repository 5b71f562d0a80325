// The two lists of a tokenizer.json that are nearly all of it, model.vocab and model.merges, as views into what was
// parsed. Included by .cpp files of this folder only, as json_at.h.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "framework/tokenizer/json_at.h"
#include "framework/tokenizer/token_index.h"

namespace fourmi {

struct VocabularyLists {
  struct Token {
    std::string_view written;
    std::int32_t id;
  };
  std::vector<Token> vocab;                             ///< none is written twice
  TokenIndex index;                                     ///< of them
  std::vector<std::array<std::string_view, 2>> merges;  ///< left, right
};

/// What a tokenizer.json says, by one of two ways to read it.
struct TokenizerFile {
  tokenizer_json_at::Json rest;  ///< quickly read: without the lists
  bool has_lists = false;        ///< quickly read
  VocabularyLists lists;
  std::shared_ptr<const void> parsed;  ///< what `lists` looks into
};

/// The quick way, for a file without a flaw. False: something is not as expected, and read_lists() below on the file
/// that the other JSON library has read says what, or finds that it can be read after all.
bool read_quickly(std::string_view json, TokenizerFile& file);

/// The lists of `model`, an object. Throws Error(input) at the key of what cannot be read.
VocabularyLists read_lists(const tokenizer_json_at::At& model);

/// "a b": false unless there is exactly one space.
bool cut_merge(std::string_view both, std::array<std::string_view, 2>& merge);

}  // namespace fourmi
