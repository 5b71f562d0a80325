// A BPE tokenizer as data: what a tokenizer.json of this kind says, and nothing that is built from it.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "framework/tokenizer/added_tokens.h"
#include "framework/tokenizer/merges.h"
#include "framework/tokenizer/normalizer.h"
#include "framework/tokenizer/pre_tokenizer.h"

namespace fourmi {

/// What merging begins from: the bytes of a word, or its characters, of which those that are no token are the tokens
/// of their bytes (byte fallback, as in SentencePiece's vocabularies).
enum class Alphabet { bytes, characters };

struct TokenizerDefinition {
  std::string place;  ///< the file, for messages
  Alphabet alphabet = Alphabet::bytes;
  std::vector<std::string> contents;      ///< what each id decodes to, as bytes; added tokens as they are written
  std::vector<bool> used;                 ///< whether an id is anybody's
  std::vector<bool> added;                ///< whether it is an added token's
  std::array<std::int32_t, 256> bytes{};  ///< the id of each byte
  std::vector<Merge> merges;
  std::vector<AddedToken> added_tokens;
  PreTokenizer pre_tokenizer;
  Normalizer normalizer;
  std::vector<std::string> written;  ///< of an alphabet of characters: each id as the vocabulary writes it
  bool strip_first_space = false;    ///< a space that a text begins with is not decoded: encoding put it there
  bool ignore_merges = false;  ///< a word that is an entry of the vocabulary is that token, whatever the merges say
};

/// Hugging Face's tokenizer.json: model BPE, of bytes (a pre-tokenizer ByteLevel) or of characters with byte fallback.
/// What is not supported is refused by its key, since a tokenizer that is read differently gives other ids without a
/// word: docs/data.md lists what is read. Not used, and not refused: the post-processor (begin_of_text.h reads what it
/// puts before a text), unk_token (every byte has a token). Throws Error(input) naming file and key.
TokenizerDefinition read_tokenizer_json(std::string_view json, const std::string& place);

/// The bytes that <0x00> to <0xFF> stand for; -1: `written` is none of them.
int byte_of_fallback(std::string_view written);

}  // namespace fourmi
