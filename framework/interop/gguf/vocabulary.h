// The vocabulary inside of a GGUF file as a tokenizer.json, which fourmi and Hugging Face's libraries read alike.
//   tokenizer.ggml.model gpt2   bytes: tokens, merges; tokenizer.ggml.pre names how text is cut into words
//                        llama  characters: tokens with scores, of which the merges follow
#pragma once

#include <string>

#include "framework/interop/gguf/header.h"

namespace fourmi::interop {

/// Throws Error(input) naming the key: another model, a way to cut that is not known, tokens twice, lists of different
/// lengths. What the tokens themselves must be read_tokenizer_json() checks.
std::string gguf_tokenizer_json(const GgufHeader& header);

}  // namespace fourmi::interop
