#include "framework/data/chat_windows.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernels/runtime/error.h"

namespace fourmi {

std::string fit_conversations(const std::string& overlong, std::int64_t sequence_length, const std::string& place,
                              ChatDocuments& documents) {
  const auto length = [](const TextPiece& d) { return d.end - d.begin; };
  const auto too_long = [&](const TextPiece& d) { return length(d) > sequence_length; };
  std::vector<TextPiece>& pieces = documents.pieces;
  const std::int64_t count = std::count_if(pieces.begin(), pieces.end(), too_long);
  if (count == 0) return {};
  std::int64_t longest = 0;
  for (const TextPiece& d : pieces) longest = std::max(longest, length(d));
  const std::string found = fmt::format("{} of {} conversations are longer than {} tokens (the longest has {})", count,
                                        pieces.size(), sequence_length, longest);
  if (overlong == "error")
    throw Error(ExitStatus::input, place,
                fmt::format("{}, conversations that fit into data.sequence_length were expected", found),
                "Set data.overlong to drop or truncate, or a longer data.sequence_length.");
  std::string note = fmt::format("{}: {} and are {}", place, found, overlong == "drop" ? "left out" : "cut off");
  if (overlong == "drop") {
    std::erase_if(pieces, too_long);
  } else {
    for (TextPiece& d : pieces)
      if (too_long(d)) d.end = d.begin + sequence_length;
    const auto nothing_left = [&](const TextPiece& d) {
      const auto begin = documents.loss.begin();
      return std::find(begin + d.begin + 1, begin + d.end, true) == begin + d.end;
    };
    if (const auto dropped = std::erase_if(pieces, nothing_left); dropped > 0)
      note += fmt::format("; of {} nothing is left to learn: they are left out", dropped);
  }
  if (pieces.empty())
    throw Error(ExitStatus::input, place, found + ", some that fit into data.sequence_length were expected");
  return note;
}

ChatWindows::ChatWindows(ChatDocuments documents, const WindowShape& shape)
    : documents_(std::move(documents)), shape_(shape) {
  const std::vector<TextPiece>& pieces = documents_.pieces;
  std::int64_t tokens = 0;
  for (std::size_t d = 0; d < pieces.size(); ++d) {
    const auto length = static_cast<std::int32_t>(pieces[d].end - pieces[d].begin);
    FOURMI_CHECK(length >= 1 && length <= shape.sequence_length, "a document of {} tokens in sequences of {}", length,
                 shape.sequence_length);
    if (!shape.packing || counts_.empty() || counts_.back().inputs + length > shape.sequence_length)
      counts_.push_back({.first = static_cast<std::int64_t>(d), .first_token = tokens});
    Counts& c = counts_.back();
    c.inputs += length, tokens += length;
    for (std::int64_t token = pieces[d].begin + 1; token < pieces[d].end; ++token) {
      c.targets += learned(token);
      c.mtp_targets += learned(token) && token > pieces[d].begin + 1;
    }
  }
}

std::int64_t ChatWindows::end_of(std::int64_t window) const {
  return window + 1 < num_windows() ? at(window + 1).first : std::ssize(documents_.pieces);
}

void ChatWindows::write(std::int64_t window, std::int64_t sequence, Batch& batch) const {
  const std::int64_t first_row = sequence * shape_.sequence_length;
  batch.window.resize(static_cast<std::size_t>(shape_.sequence_length + 2));
  std::int64_t row = first_row;
  // Where a document cannot see those before it, positions begin again with it; and with the padding.
  const auto place = [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t from = shape_.cross_document_attention ? first_row : begin;
    for (std::int64_t r = begin; r < end; ++r) {
      batch.positions[static_cast<std::size_t>(r)] = static_cast<std::int32_t>(r - from);
      batch.key_begin[static_cast<std::size_t>(r)] = static_cast<std::int32_t>(from);
    }
  };
  for (std::int64_t d = at(window).first; d < end_of(window); ++d) {
    const TextPiece& piece = documents_.pieces[static_cast<std::size_t>(d)];
    const std::int64_t n = piece.end - piece.begin;
    const std::span ids = std::span(batch.window).first(static_cast<std::size_t>(n));
    documents_.store->read(piece.begin, ids);
    place(row, row + n);
    for (std::int64_t i = 0; i < n; ++i) {
      const auto r = static_cast<std::size_t>(row + i), at = static_cast<std::size_t>(i);
      batch.tokens[r] = ids[at];
      if (i + 1 < n && learned(piece.begin + i + 1)) batch.targets[r] = ids[at + 1];
      if (i + 2 < n && learned(piece.begin + i + 2)) {
        batch.mtp_tokens[r] = ids[at + 1];
        batch.mtp_targets[r] = ids[at + 2];
      }
    }
    row += n;
  }
  place(row, first_row + shape_.sequence_length);
}

}  // namespace fourmi
