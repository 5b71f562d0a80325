// What a source is to the loader: a numbered line of tokens. Each document opens with the end-of-document token, so
// that its first token has a context to be predicted from and its last is followed by "the document ends".
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/data/held_out.h"
#include "framework/data/token_store.h"

namespace fourmi {

class TokenSource {
 public:
  virtual ~TokenSource() = default;
  /// Tokens that are an input once per epoch: 0 .. num_tokens()-1. The token num_tokens() exists as a target only.
  virtual std::int64_t num_tokens() const = 0;
  /// out[i] = token first + i; -1 beyond the token num_tokens(). 0 <= first.
  virtual void read(std::int64_t first, std::span<std::int32_t> out) const = 0;
  /// Documents that open in [first, end), end <= num_tokens().
  virtual std::int64_t num_openings(std::int64_t first, std::int64_t end) const = 0;
  /// Document d opens at token opening(d) with the end-of-document token; the last one ends before
  /// opening(num_documents()).
  virtual std::int64_t num_documents() const = 0;
  virtual std::int64_t opening(std::int64_t document) const = 0;
};

/// Documents that lie in a store. In memory beside the store: three numbers a document.
class DocumentSource final : public TokenSource {
 public:
  /// At least one document, none of them empty or with an end-of-document inside. With `closed`, the token after the
  /// last document is end-of-document (training); without, the last id of the last document is the last target
  /// (held-out blocks of a text, where nothing but the text's own bytes is counted).
  DocumentSource(std::shared_ptr<const TokenStore> store, std::vector<TextPiece> documents,
                 std::int32_t end_of_document, bool closed);

  std::int64_t num_tokens() const override { return num_tokens_; }
  void read(std::int64_t first, std::span<std::int32_t> out) const override;
  std::int64_t num_openings(std::int64_t first, std::int64_t end) const override;
  std::int64_t num_documents() const override { return static_cast<std::int64_t>(documents_.size()); }
  std::int64_t opening(std::int64_t document) const override {
    return first_token_[static_cast<std::size_t>(document)];
  }

 private:
  std::shared_ptr<const TokenStore> store_;
  std::vector<TextPiece> documents_;
  std::vector<std::int64_t> first_token_;  ///< of each document, where its opening end-of-document stands; and one more
  std::int64_t num_tokens_ = 0;
  std::int32_t end_of_document_;
  bool closed_;
};

/// Made-up documents for benchmarks and tests that need no file: documents of 1023 tokens in which the next token is,
/// in 7 of 8 cases, a fixed function of the last one, and else any. A model can learn it down to an entropy of
///   -(7/8 + 1/8V) ln(7/8 + 1/8V) - (V-1)/8V ln(1/8V)  nats a token.
class SyntheticSource final : public TokenSource {
 public:
  static constexpr std::int64_t document = 1024;  ///< tokens with the opening one

  /// V = `vocab_size`: ids [0, V) without `end_of_document` where that is among them.
  SyntheticSource(std::uint64_t seed, std::string_view name, std::int64_t num_documents, std::int64_t vocab_size,
                  std::int32_t end_of_document);
  std::int64_t num_tokens() const override { return num_documents_ * document; }
  void read(std::int64_t first, std::span<std::int32_t> out) const override;
  std::int64_t num_openings(std::int64_t first, std::int64_t end) const override;
  std::int64_t num_documents() const override { return num_documents_; }
  std::int64_t opening(std::int64_t d) const override { return d * document; }

 private:
  std::uint64_t key_;
  std::int64_t num_documents_, vocab_size_;
  std::int32_t end_of_document_;
};

}  // namespace fourmi
