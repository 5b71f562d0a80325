// How a text falls into words before merging: a chain of steps, each of which cuts the pieces that the step before
// left. Merges never cross the border of two words.
#pragma once

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
  };
  Kind kind = Kind::split;
  std::shared_ptr<const Regex> regex{};
  SplitBehavior behavior = SplitBehavior::isolated;
};
using PreTokenizer = std::vector<PreTokenizerStep>;

/// Words of GPT-2's byte-level tokenizer; also what `ByteLevel` with `use_regex` cuts by.
extern const char* const gpt2_pattern;

/// One thread's way through the steps.
class WordCutter {
 public:
  explicit WordCutter(const PreTokenizer& steps) : steps_(steps), buffers_(steps.size()) {}

  /// Calls word(std::string_view) for each word of a well-formed text, in order. The view lives until `word` returns.
  template <class Word>
  void cut(std::string_view text, Word&& word) {
    if (!text.empty()) step(text, 0, word);
  }

 private:
  struct Buffers {
    std::string text;
    std::vector<Span> spans;
  };

  template <class Word>
  void step(std::string_view piece, std::size_t i, Word& word) {
    if (i == steps_.size()) return word(piece);
    const PreTokenizerStep& s = steps_[i];
    if (s.kind == PreTokenizerStep::Kind::prefix_space) {
      if (piece.starts_with(' ')) return step(piece, i + 1, word);
      std::string& text = buffers_[i].text;
      text.assign(1, ' ').append(piece);
      return step(std::string_view(text), i + 1, word);
    }
    if (s.behavior == SplitBehavior::isolated) {
      std::size_t at = 0;
      for (Span match; at < piece.size() && matcher_.find(*s.regex, piece, at, match); at = match.end) {
        if (match.begin > at) step(piece.substr(at, match.begin - at), i + 1, word);
        step(piece.substr(match.begin, match.end - match.begin), i + 1, word);
      }
      if (at < piece.size()) step(piece.substr(at), i + 1, word);
      return;
    }
    collect(piece, s, buffers_[i].spans);
    for (const Span& span : buffers_[i].spans) step(piece.substr(span.begin, span.end - span.begin), i + 1, word);
  }

  void collect(std::string_view piece, const PreTokenizerStep& s, std::vector<Span>& spans);

  const PreTokenizer& steps_;
  std::vector<Buffers> buffers_;  ///< of each step, since steps nest
  Matcher matcher_;
};

}  // namespace fourmi
