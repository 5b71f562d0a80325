// A source's tokens in windows of sequence_length: window w's inputs are tokens [w*T, (w+1)*T), its targets one further
// and its targets of multi-token prediction two further, whatever window or document these lie in. Without packing,
// window w is document w from its opening token on, cut off after T, and its targets end with the document.
#pragma once

#include <cstdint>

#include "framework/data/batch.h"
#include "framework/data/token_source.h"
#include "framework/recipe/recipe.h"
#include "framework/tokenizer/tokenizer.h"

namespace fourmi {

/// What a batch's rows look like, apart from the tokens.
struct WindowShape {
  std::int64_t sequence_length = 0;
  bool cross_document_attention = false;
  std::int32_t opening = 0;  ///< the token that opens each document; the target behind each, unless `closing` is
  bool packing = true;
  std::int32_t closing = -1;  ///< the target behind a document that opens with another token (data.begin_of_text)
  std::int32_t target(std::int32_t token) const { return closing >= 0 && token == opening ? closing : token; }
};
/// As the recipe has them; throws Error(usage) for a data.begin_of_text that the tokenizer does not have.
WindowShape window_shape(const DataSection& data, const Tokenizer& tokenizer);

std::int64_t num_windows(const TokenSource& source, const WindowShape& shape);
/// The window's first among the source's tokens.
std::int64_t first_token(const TokenSource& source, const WindowShape& shape, std::int64_t window);
/// Rows with a target: sequence_length but for a source's last window, and for documents on their own.
std::int64_t num_targets(const TokenSource& source, const WindowShape& shape, std::int64_t window);
/// Rows with a target of multi-token prediction.
std::int64_t num_mtp_targets(const TokenSource& source, const WindowShape& shape, std::int64_t window);

/// All rows padding: the opening token, no targets. The first form fills the caller's batch, whose memory it keeps.
void empty_batch(const WindowShape& shape, std::int64_t num_sequences, Batch& batch);
Batch empty_batch(const WindowShape& shape, std::int64_t num_sequences);
/// Writes `window` into sequence `sequence` of the batch. Rows beyond the source's end stay as empty_batch made them.
void write_window(const TokenSource& source, const WindowShape& shape, std::int64_t window, std::int64_t sequence,
                  Batch& batch);

}  // namespace fourmi
