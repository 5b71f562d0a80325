// Where merging begins in vocabularies of characters, as SentencePiece learns them: a character that is a token is that
// token, any other is the tokens of its bytes (<0x00> to <0xFF>).
//
// Such a tokenizer does not cut a text into words; the whole of it is one. But what merging does to it is the same
// wherever it is cut between two characters that stand side by side in no merge's result, since no token can grow
// across that place. So a text falls into short words again, whose ids a cache remembers.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/tokenizer/merges.h"
#include "framework/tokenizer/utf8.h"

namespace fourmi {

class Characters {
 public:
  /// `written`: each id as the vocabulary writes it, empty for none; `bytes`: the ids of <0x00> to <0xFF>. `whole`:
  /// nothing is cut.
  Characters(const std::vector<std::string>& written, const std::vector<Merge>& merges,
             const std::array<std::int32_t, 256>& bytes, bool whole);

  /// Puts the ids that a word begins with into `out`. Bytes that are no UTF-8 are themselves.
  void ids(std::string_view word, std::vector<std::int32_t>& out) const;

  /// Calls word(std::string_view) for each part of a text that is merged alone.
  template <class Word>
  void cut(std::string_view text, Word&& word) const {
    if (whole_) return word(text);
    std::size_t begin = 0;
    char32_t before = none;
    for (std::size_t at = 0; at < text.size();) {
      const auto first = static_cast<unsigned char>(text[at]);
      const std::size_t length = first < 0x80 ? 1 : utf8::character(text.substr(at));
      const char32_t c = length == 0 ? none : first < 0x80 ? first : utf8::code_point(text.substr(at, length));
      if (at > begin && !side_by_side(before, c)) {
        word(text.substr(begin, at - begin));
        begin = at;
      }
      before = c;
      at += length == 0 ? 1 : length;
    }
    if (begin < text.size()) word(text.substr(begin));
  }

 private:
  static constexpr char32_t none = 0x110000;  ///< a byte that is no character's
  bool side_by_side(char32_t a, char32_t b) const {
    if (a < 128 && b < 128) return ascii_[a * 128 + b];
    const std::uint64_t pair = std::uint64_t{a} << 32 | b;
    for (std::size_t i = slot(pair);; i = (i + 1) & mask_)
      if (pairs_[i] == pair || pairs_[i] == free_slot) return pairs_[i] == pair;
  }
  std::size_t slot(std::uint64_t pair) const {
    return static_cast<std::size_t>((pair * 0x9e3779b97f4a7c15u) >> shift_);
  }
  void insert(std::uint64_t pair);

  static constexpr std::uint64_t free_slot = ~std::uint64_t{0};
  std::array<std::int32_t, 256> bytes_;
  std::vector<std::int32_t> tokens_;  ///< of each code point; -1: none
  bool whole_ = false;
  std::array<bool, std::size_t{128} * 128> ascii_{};  ///< [a * 128 + b]
  std::vector<std::uint64_t> pairs_;                  ///< open addressing; all pairs, a << 32 | b
  std::size_t mask_ = 0;
  int shift_ = 0;
};

}  // namespace fourmi
