#include "framework/train/on_policy/written_texts.h"

#include <algorithm>

#include "kernels/ops/divergence.h"

namespace fourmi {

WrittenTexts::WrittenTexts(std::int64_t most_texts, std::int64_t sequence_length, int num_ranks, Arena& arena)
    : records_(arena.allocate({num_ranks, (most_texts + num_ranks - 1) / num_ranks, 1 + sequence_length}, DType::i32,
                              "texts of a step")) {}

std::int32_t* WrittenTexts::record(std::size_t rank, std::size_t which) const {
  return records_.as<std::int32_t>() +
         (static_cast<std::int64_t>(rank) * records_.dim(1) + static_cast<std::int64_t>(which)) * records_.dim(2);
}

void WrittenTexts::share(Group& world, std::span<const Draft> drafts) {
  const auto me = static_cast<std::size_t>(world.rank());
  for (std::size_t i = 0; i < drafts.size(); ++i) {
    std::int32_t* const to = record(me, i);
    const std::vector<std::int32_t>& written = drafts[i].written;
    FOURMI_CHECK(std::ssize(written) < records_.dim(2), "{} tokens written into {}", written.size(), records_.dim(2));
    to[0] = static_cast<std::int32_t>(written.size());
    std::copy(written.begin(), written.end(), to + 1);
  }
  const auto rank_bytes = static_cast<std::size_t>(records_.bytes()) / num_ranks();
  auto* const all = static_cast<std::byte*>(records_.data);
  world.all_gather({all + me * rank_bytes, rank_bytes}, {all, num_ranks() * rank_bytes});
}

std::span<const std::int32_t> WrittenTexts::tokens(std::size_t text) const {
  const std::int32_t* const at = record(text % num_ranks(), text / num_ranks());
  return {at + 1, static_cast<std::size_t>(at[0])};
}

std::int64_t WrittenTexts::num_tokens() const {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < texts_.size(); ++i) sum += std::ssize(tokens(i));
  return sum;
}

/// Of K tokens the last is only a target, so the text has P + K - 1 inputs behind which the padding begins; each of the
/// K rows that a token was chosen in is learned, of the teacher alone.
void WrittenTexts::write(std::int64_t sample, std::int64_t sequence, Batch& batch) const {
  const auto found = std::lower_bound(texts_.begin(), texts_.end(), sample,
                                      [](const Text& text, std::int64_t s) { return text.sample < s; });
  if (found == texts_.end() || found->sample != sample) return;
  const std::span<const std::int32_t> written = tokens(static_cast<std::size_t>(found - texts_.begin()));
  const std::int64_t T = batch.sequence_length, first = sequence * T, P = found->prompt.tokens, K = std::ssize(written),
                     inputs = P + K - 1;
  const auto rows = [&](std::vector<std::int32_t>& column) {
    return std::span(column).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(T));
  };
  const auto tokens = rows(batch.tokens), targets = rows(batch.targets), positions = rows(batch.positions),
             key_begin = rows(batch.key_begin);
  std::ranges::fill(targets, -1);
  std::ranges::fill(rows(batch.mtp_tokens), -1);
  std::ranges::fill(rows(batch.mtp_targets), -1);
  std::int64_t begin = key_begin[static_cast<std::size_t>(P - 1)] - first;  // of this row's document
  for (std::int64_t i = P - 1; i < T; ++i) {
    const auto row = static_cast<std::size_t>(i);
    if (i < inputs) targets[row] = divergence_alone;
    if (i < P) continue;
    tokens[row] = i < inputs ? as_input(shape_, written[static_cast<std::size_t>(i - P)]) : shape_.opening;
    // Padding is a document of its own, so that no real row's keys depend on it.
    const bool opens =
        i < inputs ? opens_document(shape_, tokens[row]) : i == inputs && !shape_.cross_document_attention;
    if (opens) begin = i;
    positions[row] = static_cast<std::int32_t>(i - begin);
    key_begin[row] = static_cast<std::int32_t>(first + begin);
  }
}

}  // namespace fourmi
