// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fourmi {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string name() const = 0;
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
  /// The end-of-document token decodes to nothing. Throws Error(input) for an id outside of [0, vocab_size).
  virtual std::string decode(std::span<const std::int32_t> tokens) const = 0;
  virtual std::int32_t end_of_document() const = 0;
  /// Ids are in [0, vocab_size). A model may have more rows than that.
  virtual std::int64_t vocab_size() const = 0;
};

/// A token is a byte's value; 256 is the end of a document. Nothing to train, nothing unknown.
class ByteTokenizer final : public Tokenizer {
 public:
  std::string name() const override { return "bytes"; }
  std::vector<std::int32_t> encode(std::string_view text) const override;
  std::string decode(std::span<const std::int32_t> tokens) const override;
  std::int32_t end_of_document() const override { return 256; }
  std::int64_t vocab_size() const override { return 257; }
};

/// By the recipe's data.tokenizer. Throws Error(usage) for a name that is not known, and if a model of
/// `model_vocab_size` rows has fewer than the tokenizer's ids.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name, std::int64_t model_vocab_size);

}  // namespace fourmi
