#include "framework/data/validation.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "framework/data/held_out.h"
#include "framework/tokenizer/choose.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

constexpr std::int64_t synthetic_documents = 64;

}  // namespace

Validation::Validation(const DataSection& data, const std::vector<LoadedSource>& train, std::uint64_t seed,
                       std::int64_t vocab_size) {
  const auto tokenizer = make_tokenizer(data, vocab_size);
  shape_ = {data.sequence_length, data.cross_document_attention, tokenizer->end_of_document()};
  const bool files = !data.validation.empty();
  if (!files && data.holdout == 0) return;
  for (const LoadedSource& source : files ? load_sources(data.validation, "data.validation") : train) {
    const std::string place = fmt::format("data.{}.{}", files ? "validation" : "train", source.recipe.name);
    if (source.text == nullptr) {
      // Held-out synthetic text is a line of its own, so it is none that is trained on.
      add_document(std::make_unique<SyntheticSource>(seed, source.recipe.name + " held out", synthetic_documents,
                                                     vocab_size, shape_.end_of_document));
    } else {
      const Split split = split_text(*source.text, files ? 0 : data.holdout, place);
      add_text(source.text, files ? split.train : split.held_out);
    }
  }
}

void Validation::add_text(const std::shared_ptr<const Text>& text, const std::vector<TextPiece>& pieces) {
  // Only the held-out bytes are kept: the training text may be given back.
  for (const TextPiece& piece : pieces) {
    auto part = std::make_shared<Text>();
    part->bytes =
        text->bytes.substr(static_cast<std::size_t>(piece.begin), static_cast<std::size_t>(piece.end - piece.begin));
    const std::int64_t size = piece.end - piece.begin;
    num_bytes_ += size;
    add_document(
        std::make_unique<ByteSource>(std::move(part), std::vector<TextPiece>{{0, size}}, shape_.end_of_document, false));
  }
}

void Validation::add_document(std::unique_ptr<TokenSource> document) {
  const std::int64_t count = fourmi::num_windows(*document, shape_.sequence_length);
  for (std::int64_t w = 0; w < count; ++w) windows_.push_back({documents_.size(), w});
  num_targets_ += document->num_tokens();
  documents_.push_back(std::move(document));
}

std::vector<std::int64_t> Validation::spread(std::int64_t count) const {
  const std::int64_t all = num_windows();
  if (count <= 0 || count > all) count = all;
  std::vector<std::int64_t> windows(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) windows[static_cast<std::size_t>(i)] = i * all / count;
  return windows;
}

Batch Validation::batch(std::span<const std::int64_t> windows) const {
  Batch batch = empty_batch(shape_, static_cast<std::int64_t>(windows.size()));
  for (std::size_t s = 0; s < windows.size(); ++s) {
    if (windows[s] < 0) continue;
    const Window& window = windows_.at(static_cast<std::size_t>(windows[s]));
    write_window(*documents_[window.document], shape_, window.index, static_cast<std::int64_t>(s), batch);
  }
  return batch;
}

}  // namespace fourmi
