// How a text falls into words before merging: a chain of steps, each of which cuts the pieces that the step before
// left. Merges never cross the border of two words.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "framework/tokenizer/regex.h"

namespace fourmi {

/// What becomes of a match, in the words of Hugging Face's `Split`. (`Removed` is refused: text would be lost.)
enum class SplitBehavior { isolated, contiguous, merged_with_previous, merged_with_next };

struct PreTokenizerStep {
  enum class Kind {
    split,         ///< cuts at the matches of `regex`
    prefix_space,  ///< puts a space before a piece that does not begin with one
    metaspace,     ///< writes `replacement` for each space, and puts one before the piece; see `prepend` and `cuts`
  };
  enum class Prepend { always, first, never };  ///< first: only to the piece that a text begins with
  Kind kind = Kind::split;
  std::shared_ptr<const Regex> regex{};
  SplitBehavior behavior = SplitBehavior::isolated;
  std::string replacement{};  ///< what a space is written as
  Prepend prepend = Prepend::never;
  bool cuts = false;  ///< before each `replacement`
};
using PreTokenizer = std::vector<PreTokenizerStep>;

/// Words of GPT-2's byte-level tokenizer; also what `ByteLevel` with `use_regex` cuts by.
extern const char* const gpt2_pattern;

/// One thread's way through the steps.
class WordCutter {
 public:
  explicit WordCutter(const PreTokenizer& steps) : steps_(steps), buffers_(steps.size()) {}

  /// Calls word(std::string_view) for each word of a well-formed text, in order. The view lives until `word` returns.
  /// `begins`: no other part of the same text stands before.
  template <class Word>
  void cut(std::string_view text, Word&& word, bool begins = true) {
    if (!text.empty()) step(text, 0, word, begins);
  }

 private:
  struct Buffers {
    std::string text;
    std::vector<TextSpan> spans;
  };

  template <class Word>
  void step(std::string_view piece, std::size_t i, Word& word, bool begins) {
    if (i == steps_.size()) return word(piece);
    const PreTokenizerStep& s = steps_[i];
    if (s.kind == PreTokenizerStep::Kind::prefix_space) {
      if (piece.starts_with(' ')) return step(piece, i + 1, word, begins);
      std::string& text = buffers_[i].text;
      text.assign(1, ' ').append(piece);
      return step(std::string_view(text), i + 1, word, begins);
    }
    std::size_t at = 0;
    const auto pass_on = [&](std::size_t end) {
      if (end > at) step(piece.substr(at, end - at), i + 1, word, begins && at == 0);
      at = std::max(at, end);
    };
    if (s.kind == PreTokenizerStep::Kind::metaspace) {
      piece = write_spaces(piece, s, begins, buffers_[i].text);
      for (std::size_t next = at; s.cuts && next != std::string_view::npos; next = piece.find(s.replacement, next + 1))
        pass_on(next);
    } else if (s.behavior == SplitBehavior::isolated) {
      for (TextSpan match; at < piece.size() && matcher_.find(*s.regex, piece, at, match);) {
        pass_on(match.begin);
        pass_on(match.end);
      }
    } else {
      collect(piece, s, buffers_[i].spans);
      for (const TextSpan& span : buffers_[i].spans) pass_on(span.end);
    }
    pass_on(piece.size());
  }

  static std::string_view write_spaces(std::string_view piece, const PreTokenizerStep& s, bool begins,
                                       std::string& text);
  void collect(std::string_view piece, const PreTokenizerStep& s, std::vector<TextSpan>& spans);

  const PreTokenizer& steps_;
  std::vector<Buffers> buffers_;  ///< of each step, since steps nest
  Matcher matcher_;
};

}  // namespace fourmi
