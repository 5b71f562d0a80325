#include "framework/train/on_policy/writer.h"

#include <algorithm>

#include "framework/model/sampling.h"
#include "framework/train/on_policy/prompt.h"

namespace fourmi {

namespace {

/// Nobody speaks by it.
ModelSection without_multi_token(ModelSection model) {
  model.num_nextn_predict_layers = 0;
  return model;
}

ModelTypes types_of_writer(const Recipe& r) {
  const Compute compute = is_fp8(r.precision.compute) ? Compute::bf16 : r.precision.compute;
  return model_types(compute, Reproducibility::run);
}

/// A whole prompt beside a token of each other text.
DecoderSizes decoder_sizes(const Recipe& r) {
  const std::int64_t texts = r.distill.on_policy.texts, T = r.data.sequence_length;
  return {.texts = texts, .max_tokens = T, .rows = T + texts, .logit_rows = texts};
}

}  // namespace

StudentWriter::StudentWriter(const Recipe& r, Arena& arena)
    : recipe_(r.distill.on_policy),
      model_section_(without_multi_token(r.model)),
      table_(model_section_),
      store_(table_, types_of_writer(r), arena, nullptr),
      model_(model_section_, store_, r.data.sequence_length, arena),
      decoder_(model_, store_, decoder_sizes(r), arena),
      slots_(static_cast<std::size_t>(r.distill.on_policy.texts)) {}

/// Rows of a prompt see none before the document that they are in.
void StudentWriter::open(std::size_t slot, Draft& draft, const WindowShape& shape) {
  Slot& s = slots_[slot];
  s = {&draft, 0};
  for (std::size_t i = 0; i < draft.tokens.size(); ++i)
    if (opens_document(shape, draft.tokens[i])) s.read = i;
  decoder_.clear(static_cast<std::int64_t>(slot));
}

bool StudentWriter::take(std::size_t slot, std::int32_t token, const WindowShape& shape) {
  Slot& s = slots_[slot];
  Draft& draft = *s.draft;
  draft.written.push_back(token);
  const std::int32_t end_of_document = shape.closing >= 0 ? shape.closing : shape.opening;
  const bool ends = !shape.packing && (token == end_of_document || token == draft.end);
  if (ends || std::ssize(draft.written) == draft.most) return false;
  const std::int32_t input = as_input(shape, token);
  draft.tokens.push_back(input);
  if (opens_document(shape, input)) decoder_.clear(static_cast<std::int64_t>(slot));
  return true;
}

void StudentWriter::write(const Stream& stream, const WindowShape& shape, std::int64_t vocab_size,
                          std::span<Draft> drafts) {
  const Sampling sampling{.temperature = recipe_.temperature, .top_p = recipe_.top_p};
  std::fill(slots_.begin(), slots_.end(), Slot{});
  std::size_t next = 0;
  while (true) {
    runs_.clear();
    std::int64_t rows = 0;
    const auto add = [&](std::size_t slot) {
      Slot& s = slots_[slot];
      const std::span<const std::int32_t> unread = std::span(s.draft->tokens).subspan(s.read);
      runs_.push_back({.text = static_cast<std::int64_t>(slot), .tokens = unread});
      rows += std::ssize(unread);
      s.read = s.draft->tokens.size();
    };
    for (std::size_t slot = 0; slot < slots_.size(); ++slot)
      if (slots_[slot].draft) add(slot);
    for (std::size_t slot = 0; slot < slots_.size() && next < drafts.size(); ++slot) {
      if (slots_[slot].draft) continue;
      open(slot, drafts[next], shape);
      if (rows + std::ssize(drafts[next].tokens) > decoder_.sizes().rows) {  // after those that are begun
        slots_[slot] = {};
        break;
      }
      add(slot), ++next;
    }
    if (runs_.empty()) return;
    const std::span<const double> logits = decoder_.step(stream, runs_);
    const std::size_t width = logits.size() / runs_.size();
    for (std::size_t i = 0; i < runs_.size(); ++i) {
      const auto slot = static_cast<std::size_t>(runs_[i].text);
      Draft& draft = *slots_[slot].draft;
      Sampling own = sampling;
      own.seed = draft.seed;
      const std::int32_t token = sample(logits.subspan(i * width, width), own, std::ssize(draft.written), vocab_size);
      if (!take(slot, token, shape)) slots_[slot] = {};
    }
  }
}

}  // namespace fourmi
