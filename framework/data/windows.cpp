#include "framework/data/windows.h"

#include <algorithm>
#include <vector>

#include "framework/tokenizer/begin_of_text.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

/// The target two further is left out where it would be guessed across a document's end: the token between is the
/// end-of-document that closes this row's document.
bool has_mtp_target(const WindowShape& shape, std::int32_t next, std::int32_t after) {
  const bool sees_on = shape.cross_document_attention && shape.packing;
  return after >= 0 && (sees_on || next != shape.opening);
}

/// The window's tokens and two more.
void read_window(const TokenSource& source, const WindowShape& shape, std::int64_t window,
                 std::vector<std::int32_t>& tokens) {
  FOURMI_CHECK(window >= 0 && window < num_windows(source, shape), "window {} of {}", window,
               num_windows(source, shape));
  tokens.resize(static_cast<std::size_t>(shape.sequence_length + 2));
  const auto needed = static_cast<std::size_t>(num_targets(source, shape, window) + 2);
  source.read(first_token(source, shape, window), std::span(tokens).first(needed));
}

}  // namespace

WindowShape window_shape(const DataSection& data, const Tokenizer& tokenizer) {
  const std::int32_t end = tokenizer.end_of_document();
  const std::int32_t opening = begin_of_text(data, tokenizer).value_or(end);
  return {data.sequence_length, data.cross_document_attention, opening, data.packing, opening == end ? -1 : end};
}

std::int64_t first_token(const TokenSource& source, const WindowShape& shape, std::int64_t window) {
  return shape.packing ? window * shape.sequence_length : source.opening(window);
}

std::int64_t num_windows(const TokenSource& source, const WindowShape& shape) {
  if (!shape.packing) return source.num_documents();
  return (source.num_tokens() + shape.sequence_length - 1) / shape.sequence_length;
}

std::int64_t num_targets(const TokenSource& source, const WindowShape& shape, std::int64_t window) {
  const std::int64_t first = first_token(source, shape, window);
  const std::int64_t end = shape.packing ? source.num_tokens() : source.opening(window + 1);
  return std::min(shape.sequence_length, end - first);
}

std::int64_t num_mtp_targets(const TokenSource& source, const WindowShape& shape, std::int64_t window) {
  const std::int64_t first = first_token(source, shape, window);
  if (!shape.packing) {
    // Every row has one but the document's last, which is not there where the document was cut off.
    const bool whole = source.opening(window + 1) - first <= shape.sequence_length;
    return num_targets(source, shape, window) - whole;
  }
  // The source's last row has nothing two further; every other row has, unless a document opens right behind it.
  const std::int64_t end = std::min(first + shape.sequence_length, source.num_tokens() - 1);
  return end - first - (shape.cross_document_attention ? 0 : source.num_openings(first + 1, end + 1));
}

void empty_batch(const WindowShape& shape, std::int64_t num_sequences, Batch& batch) {
  const auto rows = static_cast<std::size_t>(num_sequences * shape.sequence_length);
  batch.num_sequences = num_sequences;
  batch.sequence_length = shape.sequence_length;
  batch.tokens.assign(rows, shape.opening);
  batch.targets.assign(rows, -1);
  batch.mtp_tokens.assign(rows, -1);
  batch.mtp_targets.assign(rows, -1);
  batch.positions.resize(rows);
  batch.key_begin.resize(rows);
  for (std::size_t row = 0; row < rows; ++row) {
    const std::int64_t position = static_cast<std::int64_t>(row) % shape.sequence_length;
    batch.positions[row] = static_cast<std::int32_t>(position);
    batch.key_begin[row] = static_cast<std::int32_t>(static_cast<std::int64_t>(row) - position);
  }
}

Batch empty_batch(const WindowShape& shape, std::int64_t num_sequences) {
  Batch batch;
  empty_batch(shape, num_sequences, batch);
  return batch;
}

void write_window(const TokenSource& source, const WindowShape& shape, std::int64_t window, std::int64_t sequence,
                  Batch& batch) {
  std::vector<std::int32_t>& tokens = batch.window;
  read_window(source, shape, window, tokens);
  const std::int64_t real = num_targets(source, shape, window), first_row = sequence * shape.sequence_length;
  std::int64_t begin = 0;  // of this row's document, in the sequence
  for (std::int64_t i = 0; i < shape.sequence_length; ++i) {
    const auto row = static_cast<std::size_t>(first_row + i), at = static_cast<std::size_t>(i);
    const bool padding = i >= real;
    // Padding is a document of its own, so that no real row's keys depend on it.
    const bool opens = padding ? i == real : tokens[at] == shape.opening;
    if (opens && !shape.cross_document_attention) begin = i;
    batch.positions[row] = static_cast<std::int32_t>(i - begin);
    batch.key_begin[row] = static_cast<std::int32_t>(first_row + begin);
    if (padding) continue;
    batch.tokens[row] = tokens[at];
    batch.targets[row] = shape.target(tokens[at + 1]);
    if (has_mtp_target(shape, tokens[at + 1], tokens[at + 2])) {
      batch.mtp_tokens[row] = tokens[at + 1];
      batch.mtp_targets[row] = shape.target(tokens[at + 2]);
    }
  }
}

}  // namespace fourmi
