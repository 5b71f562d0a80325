// A byte-level BPE tokenizer as data: what a tokenizer.json of this kind says, and nothing that is built from it.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "framework/tokenizer/added_tokens.h"
#include "framework/tokenizer/merges.h"
#include "framework/tokenizer/pre_tokenizer.h"

namespace fourmi {

struct TokenizerDefinition {
  std::string place;                      ///< the file, for messages
  std::vector<std::string> contents;      ///< what each id decodes to, as bytes; added tokens as they are written
  std::vector<bool> used;                 ///< whether an id is anybody's
  std::vector<bool> added;                ///< whether it is an added token's
  std::array<std::int32_t, 256> bytes{};  ///< the id of each byte
  std::vector<Merge> merges;
  std::vector<AddedToken> added_tokens;
  PreTokenizer pre_tokenizer;
  bool normalize_nfc = false;
  bool ignore_merges = false;  ///< a word that is an entry of the vocabulary is that token, whatever the merges say
};

/// Hugging Face's tokenizer.json: model BPE, byte level. What is not supported is refused by its key, since a tokenizer
/// that is read differently gives other ids without a word: normalizers other than NFC, pre-tokenizers other than
/// Sequence, Split, Digits and ByteLevel, dropout, word prefixes and suffixes. Not used, and not refused: the
/// post-processor (a document's own opening token takes its place), unk_token, byte_fallback (every byte has a token).
/// Throws Error(input) naming file and key.
TokenizerDefinition read_tokenizer_json(std::string_view json, const std::string& place);

}  // namespace fourmi
