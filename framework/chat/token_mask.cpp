#include "framework/chat/token_mask.h"

#include <algorithm>
#include <string_view>

namespace fourmi {
namespace {

using Bytes = std::pair<std::size_t, std::size_t>;

/// Where each token begins, if the tokens' texts in a row are the text.
std::optional<std::vector<std::size_t>> beginnings(std::string_view text, std::span<const std::int32_t> ids,
                                                   const Tokenizer& tokenizer, const std::string& end_of_document) {
  std::vector<std::size_t> begin;
  begin.reserve(ids.size());
  std::size_t at = 0;
  for (const std::int32_t id : ids) {
    const std::string piece =
        id == tokenizer.end_of_document() ? end_of_document : tokenizer.decode_next(id, begin.empty());
    if (text.compare(at, piece.size(), piece) != 0) return std::nullopt;
    begin.push_back(at);
    at += piece.size();
  }
  if (at != text.size()) return std::nullopt;
  return begin;
}

}  // namespace

std::optional<std::vector<bool>> mask_tokens(const std::string& text, std::span<const std::int32_t> ids,
                                             std::span<const Bytes> spans, const Tokenizer& tokenizer, Encoder& encoder,
                                             const std::string& end_of_document) {
  std::vector<bool> mask(ids.size(), false);
  if (const auto begin = beginnings(text, ids, tokenizer, end_of_document)) {
    std::size_t i = 0;
    for (const auto& [first, end] : spans) {
      while (i < ids.size() && (*begin)[i] < first) ++i;
      for (; i < ids.size() && (*begin)[i] < end; ++i) mask[i] = true;
    }
    return mask;
  }
  // Where the text up to a place is the same tokens on its own, the place is between two of them.
  std::vector<std::int32_t> prefix;
  const auto tokens_until = [&](std::size_t place) -> std::optional<std::size_t> {
    if (place == text.size()) return ids.size();
    prefix.clear();
    encoder.append(std::string_view(text).substr(0, place), prefix);
    if (prefix.size() > ids.size() || !std::equal(prefix.begin(), prefix.end(), ids.begin())) return std::nullopt;
    return prefix.size();
  };
  for (const auto& [first, end] : spans) {
    const auto from = tokens_until(first), until = tokens_until(end);
    if (!from || !until) return std::nullopt;
    std::fill(mask.begin() + static_cast<std::ptrdiff_t>(*from), mask.begin() + static_cast<std::ptrdiff_t>(*until),
              true);
  }
  return mask;
}

}  // namespace fourmi
