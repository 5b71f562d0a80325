#include "framework/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "framework/tokenizer/utf8.h"

namespace fourmi {
namespace {

/// The character that ends at `end`; empty if there is none.
std::string_view character_before(std::string_view text, std::size_t end) {
  for (std::size_t length = 1; length <= 4 && length <= end; ++length)
    if (utf8::character(text.substr(end - length, length)) == length) return text.substr(end - length, length);
  return {};
}

bool is_space(std::string_view character) {
  return !character.empty() && utf8::is_white_space(utf8::code_point(character));
}

std::size_t spaces_before(std::string_view text, std::size_t end) {
  std::size_t at = end;
  for (std::string_view c; is_space(c = character_before(text, at));) at -= c.size();
  return end - at;
}

std::size_t spaces_after(std::string_view text, std::size_t begin) {
  std::size_t at = begin;
  while (true) {
    const std::size_t length = utf8::character(text.substr(at));
    if (!is_space(text.substr(at, length))) return at - begin;
    at += length;
  }
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)), nodes_(1) {
  for (std::size_t t = 0; t < tokens_.size(); ++t) {
    std::size_t node = 0;
    for (const char c : tokens_[t].content) {
      auto& next = nodes_[node].next;
      const auto found = std::find_if(next.begin(), next.end(), [&](const auto& edge) { return edge.first == c; });
      if (found != next.end()) {
        node = static_cast<std::size_t>(found->second);
      } else {
        next.emplace_back(c, static_cast<std::int32_t>(nodes_.size()));
        node = nodes_.size();
        nodes_.emplace_back();
      }
    }
    nodes_[node].token = static_cast<std::int32_t>(t);
    begins_[static_cast<unsigned char>(tokens_[t].content.at(0))] = true;
  }
}

std::int32_t AddedTokenFinder::longest(std::string_view text, std::size_t at) const {
  std::int32_t best = -1;
  std::size_t node = 0;
  for (; at < text.size(); ++at) {
    const auto& next = nodes_[node].next;
    const auto found = std::find_if(next.begin(), next.end(), [&](const auto& edge) { return edge.first == text[at]; });
    if (found == next.end()) break;
    node = static_cast<std::size_t>(found->second);
    if (nodes_[node].token >= 0) best = nodes_[node].token;
  }
  return best;
}

bool AddedTokenFinder::stands_alone(std::string_view text, TextSpan match) const {
  static const Regex word(R"(\p{L}|\p{M}|\p{N}|\p{Pc}|\x{200c}|\x{200d})", "single_word");
  Matcher matcher;
  TextSpan found;
  const std::string_view before = character_before(text, match.begin);
  const std::string_view after = text.substr(match.end, utf8::character(text.substr(match.end)));
  return !(!before.empty() && matcher.find(word, before, 0, found)) &&
         !(!after.empty() && matcher.find(word, after, 0, found));
}

void AddedTokenFinder::cut(std::string_view text, std::vector<Part>& parts) const {
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (!begins_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const std::int32_t index = longest(text, at);
    if (index < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(index)];
    TextSpan match{at, at + token.content.size()};
    at = match.end;
    if (token.single_word && !stands_alone(text, match)) continue;
    if (token.lstrip) match.begin = std::max(done, match.begin - spaces_before(text, match.begin));
    if (token.rstrip) match.end += spaces_after(text, match.end);
    if (match.begin > done) parts.push_back({text.substr(done, match.begin - done), -1});
    parts.push_back({text.substr(match.begin, match.end - match.begin), token.id});
    done = match.end;
    at = std::max(at, done);
  }
  if (done < text.size()) parts.push_back({text.substr(done), -1});
}

}  // namespace fourmi
