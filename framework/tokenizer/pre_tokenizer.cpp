#include "framework/tokenizer/pre_tokenizer.h"

#include <algorithm>

namespace fourmi {

const char* const gpt2_pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::string_view WordCutter::write_spaces(std::string_view piece, const PreTokenizerStep& s, bool begins,
                                          std::string& text) {
  text.clear();
  const bool there = piece.starts_with(' ') || piece.starts_with(s.replacement);
  const bool wished =
      s.prepend == PreTokenizerStep::Prepend::always || (s.prepend == PreTokenizerStep::Prepend::first && begins);
  if (wished && !there) text = s.replacement;
  while (!piece.empty()) {
    const std::size_t space = std::min(piece.find(' '), piece.size());
    text.append(piece.substr(0, space));
    piece.remove_prefix(space);
    if (piece.empty()) break;
    text += s.replacement;
    piece.remove_prefix(1);
  }
  return text;
}

void WordCutter::collect(std::string_view piece, const PreTokenizerStep& s, std::vector<TextSpan>& spans) {
  struct Part {
    TextSpan span;
    bool match;
  };
  std::vector<Part> parts;
  std::size_t at = 0;
  for (TextSpan match; at < piece.size() && matcher_.find(*s.regex, piece, at, match); at = match.end) {
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
