// BPE tokenizers of bytes and of characters: the ids that Hugging Face's tokenizers gives for well-formed UTF-8, and
// the bytes themselves for anything else.
//
// A text is cut at its added tokens; each part into stretches of well-formed UTF-8 and of other bytes; the former are
// normalized (if the tokenizer says so) and cut into words, each run of the latter is one word. So decode(encode(x)) is
// x for any bytes, unless the tokenizer normalizes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "framework/tokenizer/characters.h"
#include "framework/tokenizer/definition.h"
#include "framework/tokenizer/tokenizer.h"

namespace fourmi {

class BpeTokenizer final : public Tokenizer {
 public:
  /// `end_of_document`: the content of an added token; empty: the first of end_of_document_names that is one. Throws
  /// Error(usage) at `key` if there is none.
  BpeTokenizer(TokenizerDefinition definition, const std::string& end_of_document, const std::string& key);

  std::string name() const override { return definition_.place; }
  std::unique_ptr<Encoder> make_encoder() const override;
  /// Special tokens decode to what they are written as, the end of a document to nothing.
  std::string decode(std::span<const std::int32_t> tokens) const override;
  std::string decode_next(std::int32_t token, bool begins) const override;
  std::int32_t end_of_document() const override { return end_of_document_; }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(definition_.contents.size()); }
  const TokenizerDefinition& definition() const { return definition_; }

 private:
  friend class BpeEncoder;
  const std::string& content(std::int32_t token) const;
  TokenizerDefinition definition_;
  std::int32_t end_of_document_ = -1;
  MergeTable merges_;
  std::optional<Characters> characters_;                            ///< of an alphabet of characters
  AddedTokenFinder in_text_, in_normalized_;                        ///< added tokens by where they are sought
  std::unordered_map<std::string_view, std::int32_t> whole_words_;  ///< only with ignore_merges
};

}  // namespace fourmi
