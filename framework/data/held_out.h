// Which part of a text is held out for validation, and the documents that the rest falls into.
//
// The decoded text of a source is cut into blocks of 64 KiB; with a share s, one block of every round(1/s) is held out:
// the middle one, so block b with b % n == n / 2. What lies between two held-out blocks is training text; it is cut
// again at file ends, and each piece is a document.
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

/// share 0: nothing is held out. Throws Error(input) at `place` if a share is asked for and the text is too small to
/// give a block or would be held out whole, Error(usage) if the share is not in [0, 0.5].
Split split_text(const Text& text, double share, const std::string& place);

/// The held-out bytes of a text, one after the other: what `xz` gets for comparison.
std::string held_out_bytes(const Text& text, double share, const std::string& place);

}  // namespace fourmi
