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

void check_share(double share) {
  if (!(share >= 0 && share <= 0.5))
    throw Error(ExitStatus::usage, "data.validation.holdout",
                fmt::format("{} was found, a share from 0 to 0.5 was expected", share));
}

/// The first place from `at` on that is no inside of a character of UTF-8.
std::int64_t character_from(const std::string& bytes, std::int64_t at) {
  const auto inside = [&](std::int64_t i) {
    return i < std::ssize(bytes) && (static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]) & 0xC0) == 0x80;
  };
  for (std::int64_t i = at; i < at + 4; ++i)
    if (!inside(i)) return i;
  return at;  // no UTF-8
}

}  // namespace

Split split_text(const Text& text, double share, const std::string& place, bool whole_characters) {
  check_share(share);
  const auto size = static_cast<std::int64_t>(text.bytes.size());
  Split split;
  if (share == 0) {
    add_cut(text, 0, size, split.train);
    return split;
  }
  const std::int64_t every = std::llround(1 / share);
  std::int64_t begin = 0;  // of the training text since the last held-out block
  for (std::int64_t at = every / 2 * held_out_block; at < size; at += every * held_out_block) {
    const auto edge = [&](std::int64_t i) { return whole_characters ? character_from(text.bytes, i) : i; };
    const std::int64_t first = edge(at), stop = std::min(size, edge(at + held_out_block));
    add_cut(text, begin, first, split.train);
    add_cut(text, first, stop, split.held_out);
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

Split split_documents(const std::vector<TextPiece>& documents, double share, const std::string& place) {
  check_share(share);
  if (share == 0) return {documents, {}};
  const auto every = static_cast<std::size_t>(std::llround(1 / share));
  Split split;
  for (std::size_t d = 0; d < documents.size(); ++d)
    (d % every == every / 2 ? split.held_out : split.train).push_back(documents[d]);
  if (split.held_out.empty() || split.train.empty())
    throw Error(ExitStatus::input, place,
                fmt::format("{} documents were found, more than {} were expected so that a share of {} holds one out",
                            documents.size(), every / 2, share),
                "Give data.validation files of its own, or a larger share.");
  return split;
}

}  // namespace fourmi
