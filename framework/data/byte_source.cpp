#include <algorithm>
#include <utility>

#include "framework/data/token_source.h"
#include "kernels/runtime/error.h"

namespace fourmi {

ByteSource::ByteSource(std::shared_ptr<const Text> text, std::vector<TextPiece> documents, std::int32_t end_of_document,
                       bool closed)
    : text_(std::move(text)),
      documents_(std::move(documents)),
      end_of_document_(end_of_document),
      checksum_(text_->checksum()),
      closed_(closed) {
  FOURMI_CHECK(!documents_.empty(), "a source without documents");
  first_token_.reserve(documents_.size());
  for (const TextPiece& piece : documents_) {
    first_token_.push_back(num_tokens_);
    num_tokens_ += 1 + piece.end - piece.begin;
  }
  if (!closed_) --num_tokens_;  // the last byte is a target only
}

void ByteSource::read(std::int64_t first, std::span<std::int32_t> out) const {
  FOURMI_CHECK(first >= 0, "token {} of a source", first);
  const auto* bytes = reinterpret_cast<const unsigned char*>(text_->bytes.data());
  std::size_t i = 0;
  auto document = std::upper_bound(first_token_.begin(), first_token_.end(), first) - first_token_.begin() - 1;
  for (std::int64_t token = first; i < out.size() && token <= num_tokens_; ++document) {
    if (document == std::ssize(documents_)) {  // only a closed source gets here
      out[i++] = end_of_document_;
      break;
    }
    const auto d = static_cast<std::size_t>(document);
    const std::int64_t length = documents_[d].end - documents_[d].begin;
    if (token == first_token_[d]) {
      out[i++] = end_of_document_;
      ++token;
    }
    std::int64_t offset = token - first_token_[d] - 1;
    for (; offset < length && i < out.size(); ++offset, ++token) out[i++] = bytes[documents_[d].begin + offset];
  }
  std::fill(out.begin() + static_cast<std::ptrdiff_t>(i), out.end(), -1);
}

std::int64_t ByteSource::num_openings(std::int64_t first, std::int64_t end) const {
  return std::lower_bound(first_token_.begin(), first_token_.end(), end) -
         std::lower_bound(first_token_.begin(), first_token_.end(), first);
}

}  // namespace fourmi
