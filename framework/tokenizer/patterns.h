// How the known families cut text into words, by name.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "framework/tokenizer/pre_tokenizer.h"

namespace fourmi {

struct WordPattern {
  std::string name;
  std::vector<std::string> regexes;  ///< one Split (Isolated) after the other
};

/// gpt2, cl100k (GPT-4, Llama 3), qwen2 (single digits), deepseek-v3.
const std::vector<WordPattern>& word_patterns();
/// Throws Error(usage) at `place`, naming all.
const WordPattern& find_word_pattern(const std::string& name, const std::string& place);
PreTokenizer pre_tokenizer_of(const WordPattern& pattern);

}  // namespace fourmi
