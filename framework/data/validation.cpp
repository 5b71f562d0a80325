#include "framework/data/validation.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "framework/data/chat_documents.h"
#include "framework/data/held_out.h"
#include "framework/data/made_with.h"
#include "framework/tokenizer/choose.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

constexpr std::int64_t synthetic_documents = 64;

}  // namespace

Validation::Validation(const DataSection& data, const std::vector<LoadedSource>& train, std::uint64_t seed,
                       std::int64_t vocab_size, ThreadPool* pool) {
  const auto tokenizer = make_tokenizer(data, vocab_size);
  shape_ = window_shape(data, *tokenizer);
  shape_.packing = true;
  const bool files = !data.validation.empty();
  if (!files && data.holdout == 0) return;
  for (const LoadedSource& source : files ? load_sources(data.validation, "data.validation") : train) {
    const std::string place = fmt::format("data.{}.{}", files ? "validation" : "train", source.recipe.name);
    if (source.synthetic()) {
      // Held-out synthetic text is a line of its own, so it is none that is trained on.
      add(std::make_unique<SyntheticSource>(seed, source.recipe.name + " held out", synthetic_documents, vocab_size,
                                            shape_.opening));
      continue;
    }
    const double share = files ? 0 : data.holdout;
    const Side side = files ? Side::train : Side::held_out;
    if (source.chat) {
      ChatDocuments documents = chat_documents_of(source, side, share, data, *tokenizer, place, pool);
      notes_.push_back(documents.note);
      checksum_ = checksum_ * 31 + documents.checksum;
      num_bytes_ += documents.num_loss_bytes;
      if (std::string note = fit_conversations(data.overlong, data.sequence_length, place, documents); !note.empty())
        notes_.push_back(std::move(note));
      WindowShape shape = shape_;
      shape.packing = data.packing;
      add(std::make_unique<ChatWindows>(std::move(documents), shape));
      continue;
    }
    check_made_with(source, data, place);
    Documents documents = documents_of(source, side, share, *tokenizer, vocab_size, place, pool, shape_.opening);
    num_bytes_ += documents.num_bytes;
    if (!documents.note.empty()) notes_.push_back(documents.note);
    checksum_ = checksum_ * 31 + source.checksum();
    add_documents(std::move(documents), source.recipe.format == "text");
  }
}

void Validation::add_documents(Documents documents, bool each_alone) {
  if (!each_alone)
    return add(std::make_unique<DocumentSource>(std::move(documents.store), std::move(documents.pieces), shape_.opening,
                                                true));
  for (const TextPiece& piece : documents.pieces)
    add(std::make_unique<DocumentSource>(documents.store, std::vector<TextPiece>{piece}, shape_.opening, false));
}

void Validation::add(std::unique_ptr<TokenSource> line) {
  add(std::make_unique<StreamWindows>(std::move(line), shape_));
}

void Validation::add(std::unique_ptr<WindowSource> line) {
  for (std::int64_t w = 0; w < line->num_windows(); ++w) {
    windows_.push_back({lines_.size(), w});
    num_targets_ += line->num_targets(w);
  }
  lines_.push_back(std::move(line));
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
    lines_[window.line]->write(window.index, static_cast<std::int64_t>(s), batch);
  }
  return batch;
}

}  // namespace fourmi
