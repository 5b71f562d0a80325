// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fourmi {

/// One thread's way to encode: holds scratch and a bounded cache of words, so that it is fast from the second text on.
/// Lives no longer than its tokenizer.
class Encoder {
 public:
  virtual ~Encoder() = default;
  /// Appends the ids of one text, without a token for its beginning or end. Any bytes are a text.
  virtual void append(std::string_view text, std::vector<std::int32_t>& out) = 0;
};

/// Immutable: any number of threads may use one.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string name() const = 0;
  virtual std::unique_ptr<Encoder> make_encoder() const = 0;
  /// For a text or two; for many, keep an encoder.
  std::vector<std::int32_t> encode(std::string_view text) const;
  /// The end-of-document token decodes to nothing. Throws Error(input) for an id that is none of the tokenizer's.
  virtual std::string decode(std::span<const std::int32_t> tokens) const = 0;
  /// What `token` adds to a text: decode() of all tokens is all of these together. `begins`: those before stand for
  /// nothing. (A space that encoding puts before each text is not decoded.)
  virtual std::string decode_next(std::int32_t token, bool begins) const;
  virtual std::int32_t end_of_document() const = 0;
  /// Ids are in [0, vocab_size). A model may have more rows than that.
  virtual std::int64_t vocab_size() const = 0;
};

}  // namespace fourmi
