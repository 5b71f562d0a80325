#include "framework/tokenizer/pre_tokenizer.h"

#include <algorithm>

namespace fourmi {

const char* const gpt2_pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

void WordCutter::collect(std::string_view piece, const PreTokenizerStep& s, std::vector<Span>& spans) {
  struct Part {
    Span span;
    bool match;
  };
  std::vector<Part> parts;
  std::size_t at = 0;
  for (Span match; at < piece.size() && matcher_.find(*s.regex, piece, at, match); at = match.end) {
    if (match.begin > at) parts.push_back({{at, match.begin}, false});
    parts.push_back({match, true});
  }
  if (at < piece.size()) parts.push_back({{at, piece.size()}, false});

  spans.clear();
  bool before = false;  // was the part before a match?
  if (s.behavior == SplitBehavior::merged_with_next) {
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
      if (part->match && !before && !spans.empty())
        spans.back().begin = part->span.begin;
      else
        spans.push_back(part->span);
      before = part->match;
    }
    std::reverse(spans.begin(), spans.end());
    return;
  }
  for (const Part& part : parts) {
    const bool joins = s.behavior == SplitBehavior::contiguous ? part.match == before : part.match && !before;
    if (joins && !spans.empty())
      spans.back().end = part.span.end;
    else
      spans.push_back(part.span);
    before = part.match;
  }
}

}  // namespace fourmi
