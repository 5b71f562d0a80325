#include "framework/data/held_out.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

/// [begin, end) cut at file ends.
void add_cut(const Text& text, std::int64_t begin, std::int64_t end, std::vector<TextPiece>& pieces) {
  for (auto cut = std::upper_bound(text.file_ends.begin(), text.file_ends.end(), begin);
       begin < end && cut != text.file_ends.end(); ++cut) {
    const std::int64_t stop = std::min(end, *cut);
    if (stop > begin) pieces.push_back({begin, stop});
    begin = stop;
  }
}

}  // namespace

Split split_text(const Text& text, double share, const std::string& place) {
  if (!(share >= 0 && share <= 0.5))
    throw Error(ExitStatus::usage, "data.validation.holdout",
                fmt::format("{} was found, a share from 0 to 0.5 was expected", share));
  const auto size = static_cast<std::int64_t>(text.bytes.size());
  Split split;
  if (share == 0) {
    add_cut(text, 0, size, split.train);
    return split;
  }
  const std::int64_t every = std::llround(1 / share);
  std::int64_t begin = 0;  // of the training text since the last held-out block
  for (std::int64_t at = every / 2 * held_out_block; at < size; at += every * held_out_block) {
    const std::int64_t stop = std::min(size, at + held_out_block);
    add_cut(text, begin, at, split.train);
    add_cut(text, at, stop, split.held_out);
    begin = stop;
  }
  add_cut(text, begin, size, split.train);
  if (split.held_out.empty() || split.train.empty())
    throw Error(ExitStatus::input, place,
                fmt::format("{} bytes of text were found, more than {} were expected so that a share of {} holds out a "
                            "block of 64 KiB",
                            size, every / 2 * held_out_block, share),
                "Give data.validation files of its own, or a larger share.");
  return split;
}

std::string held_out_bytes(const Text& text, double share, const std::string& place) {
  std::string bytes;
  for (const TextPiece& piece : split_text(text, share, place).held_out)
    bytes.append(text.bytes, static_cast<std::size_t>(piece.begin), static_cast<std::size_t>(piece.end - piece.begin));
  return bytes;
}

}  // namespace fourmi
