#include "framework/tokenizer/bytes.h"

#include <fmt/format.h>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

class ByteEncoder final : public Encoder {
 public:
  void append(std::string_view text, std::vector<std::int32_t>& out) override {
    out.reserve(out.size() + text.size());
    for (const char c : text) out.push_back(static_cast<unsigned char>(c));
  }
};

}  // namespace

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> tokens;
  make_encoder()->append(text, tokens);
  return tokens;
}

std::string Tokenizer::decode_next(std::int32_t token, bool /*begins*/) const {
  return decode(std::span(&token, 1));
}

std::unique_ptr<Encoder> ByteTokenizer::make_encoder() const {
  return std::make_unique<ByteEncoder>();
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

}  // namespace fourmi
