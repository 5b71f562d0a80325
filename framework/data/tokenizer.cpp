#include "framework/data/tokenizer.h"

#include <fmt/format.h>

#include "kernels/runtime/error.h"

namespace fourmi {

std::vector<std::int32_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> tokens;
  tokens.reserve(text.size());
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

std::string ByteTokenizer::decode(std::span<const std::int32_t> tokens) const {
  std::string text;
  text.reserve(tokens.size());
  for (const std::int32_t token : tokens) {
    if (token < 0 || token >= vocab_size())
      throw Error(ExitStatus::input, "tokenizer bytes",
                  fmt::format("token {}, an id from 0 to {} was expected", token, vocab_size() - 1));
    if (token != end_of_document()) text.push_back(static_cast<char>(token));
  }
  return text;
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name, std::int64_t model_vocab_size) {
  if (name != "bytes")
    throw Error(ExitStatus::usage, "data.tokenizer", fmt::format("'{}' was found, 'bytes' was expected", name));
  auto tokenizer = std::make_unique<ByteTokenizer>();
  if (model_vocab_size < tokenizer->vocab_size())
    throw Error(ExitStatus::usage, "model.vocab_size",
                fmt::format("{} was found, at least {} (the ids of tokenizer '{}') was expected", model_vocab_size,
                            tokenizer->vocab_size(), name));
  return tokenizer;
}

}  // namespace fourmi
