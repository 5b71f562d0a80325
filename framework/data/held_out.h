// Which part of a text is held out for validation, and the documents that the rest falls into.
//
// The decoded text of a source is cut into blocks of 64 KiB; with a share s, one block of every round(1/s) is held out:
// the middle one, so block b with b % n == n / 2. What lies between two held-out blocks is training text; it is cut
// again at file ends, and each piece is a document.
//
// Sources that come in documents (JSON lines, token files) hold out whole ones by the same rule: one of every
// round(1/s), the middle one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/data/text.h"

namespace fourmi {

constexpr std::int64_t held_out_block = 64 * 1024;  ///< bytes

/// Bytes [begin, end) of a text, never empty.
struct TextPiece {
  std::int64_t begin = 0, end = 0;
  bool operator==(const TextPiece&) const = default;
};

struct Split {
  std::vector<TextPiece> train;     ///< documents, ascending
  std::vector<TextPiece> held_out;  ///< blocks, ascending; a block is cut at file ends too
};

/// Cuts `text`. With `whole_characters`, blocks begin where a character of UTF-8 begins (at most 3 bytes later), for
/// tokenizers that read characters.
/// share 0: nothing is held out. Throws Error(input) at `place` if a share is asked for and the text is too small to
/// give a block or would be held out whole, Error(usage) if the share is not in [0, 0.5].
Split split_text(const Text& text, double share, const std::string& place, bool whole_characters = false);
/// The same of documents. Throws Error(input) if a share is asked for and there are too few.
Split split_documents(const std::vector<TextPiece>& documents, double share, const std::string& place);

}  // namespace fourmi
