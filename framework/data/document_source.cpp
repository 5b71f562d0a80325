#include <algorithm>
#include <utility>

#include "framework/data/token_source.h"
#include "kernels/runtime/error.h"

namespace fourmi {

DocumentSource::DocumentSource(std::shared_ptr<const TokenStore> store, std::vector<TextPiece> documents,
                               std::int32_t end_of_document, bool closed)
    : store_(std::move(store)), documents_(std::move(documents)), end_of_document_(end_of_document), closed_(closed) {
  FOURMI_CHECK(!documents_.empty(), "a source without documents");
  first_token_.reserve(documents_.size() + 1);
  for (const TextPiece& piece : documents_) {
    first_token_.push_back(num_tokens_);
    num_tokens_ += 1 + piece.end - piece.begin;
  }
  first_token_.push_back(num_tokens_);
  if (!closed_) --num_tokens_;  // the last id is a target only
}

void DocumentSource::read(std::int64_t first, std::span<std::int32_t> out) const {
  FOURMI_CHECK(first >= 0, "token {} of a source", first);
  std::size_t i = 0;
  auto document = std::upper_bound(first_token_.begin(), first_token_.end(), first) - first_token_.begin() - 1;
  for (std::int64_t token = first; i < out.size() && token <= num_tokens_; ++document) {
    if (document == num_documents()) {  // only a closed source gets here
      out[i++] = end_of_document_;
      break;
    }
    const auto d = static_cast<std::size_t>(document);
    if (token == first_token_[d]) {
      out[i++] = end_of_document_;
      ++token;
    }
    const std::int64_t offset = token - first_token_[d] - 1;
    const std::int64_t room = static_cast<std::int64_t>(out.size() - i);
    const std::int64_t count = std::min(room, documents_[d].end - documents_[d].begin - offset);
    store_->read(documents_[d].begin + offset, out.subspan(i, static_cast<std::size_t>(count)));
    i += static_cast<std::size_t>(count);
    token += count;
  }
  std::fill(out.begin() + static_cast<std::ptrdiff_t>(i), out.end(), -1);
}

std::int64_t DocumentSource::num_openings(std::int64_t first, std::int64_t end) const {
  const auto documents_end = first_token_.end() - 1;
  return std::lower_bound(first_token_.begin(), documents_end, end) -
         std::lower_bound(first_token_.begin(), documents_end, first);
}

}  // namespace fourmi
