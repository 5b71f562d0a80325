// A trained tokenizer as a tokenizer.json.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/tokenizer/learn.h"

namespace fourmi {

/// As Hugging Face's tokenizers reads it; the same training gives the same bytes.
std::string to_tokenizer_json(const LearntVocabulary& vocabulary, const std::string& pattern_name);

}  // namespace fourmi
