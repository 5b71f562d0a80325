#include <algorithm>

#include "framework/data/token_source.h"
#include "kernels/numerics/random.h"
#include "kernels/runtime/error.h"

namespace fourmi {

SyntheticSource::SyntheticSource(std::uint64_t seed, std::string_view name, std::int64_t num_documents,
                                 std::int64_t vocab_size, std::int32_t end_of_document)
    : key_(random_key(seed, "synthetic", name).value),
      num_documents_(num_documents),
      vocab_size_(vocab_size),
      end_of_document_(end_of_document) {
  FOURMI_CHECK(num_documents >= 1 && vocab_size >= 2, "{} documents of {} ids", num_documents, vocab_size);
}

void SyntheticSource::read(std::int64_t first, std::span<std::int32_t> out) const {
  FOURMI_CHECK(first >= 0, "token {} of a source", first);
  // Drawn ids skip end-of-document: what is at or above it moves up by one.
  const bool skip = end_of_document_ < vocab_size_;
  const auto num_ids = static_cast<std::uint64_t>(vocab_size_ - (skip ? 1 : 0));
  const auto id_of = [&](std::uint64_t drawn) {
    const auto id = static_cast<std::int32_t>(drawn);
    return skip && id >= end_of_document_ ? id + 1 : id;
  };
  std::fill(out.begin(), out.end(), -1);
  const std::int64_t end = std::min(first + static_cast<std::int64_t>(out.size()), num_tokens() + 1);
  std::uint64_t last = 0;
  // A document is drawn from its first token on, wherever reading begins.
  for (std::int64_t token = first / document * document; token < end; ++token) {
    const auto index = static_cast<std::uint64_t>(token);
    const std::uint64_t bits = random_bits(RandomKey{key_}, index);
    const bool opens = token % document == 0;
    if (!opens) last = (token % document == 1 || bits % 8 == 0) ? (bits >> 3) % num_ids : (5 * last + 17) % num_ids;
    if (token >= first) out[static_cast<std::size_t>(token - first)] = opens ? end_of_document_ : id_of(last);
  }
}

std::int64_t SyntheticSource::num_openings(std::int64_t first, std::int64_t end) const {
  return (end + document - 1) / document - (first + document - 1) / document;
}

}  // namespace fourmi
