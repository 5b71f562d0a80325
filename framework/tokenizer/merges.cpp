#include "framework/tokenizer/merges.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace fourmi {
MergeTable::MergeTable(const std::array<std::int32_t, 256>& bytes, const std::vector<Merge>& merges) : bytes_(bytes) {
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(16, merges.size() * 2));
  tags_.assign(size + eight, free_slot);
  entries_.resize(size);
  mask_ = size - 1;
  shift_ = 64 - std::countr_zero(size);
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& m = merges[rank];
    const std::uint64_t pair = pair_of(m.left, m.right), hash = hash_of(pair);
    std::size_t i = slot(hash);
    while (tags_[i] != free_slot && entries_[i].pair != pair) i = (i + 1) & mask_;
    tags_[i] = tag_of(hash);
    entries_[i] = {pair, static_cast<std::uint32_t>(rank), m.result};
  }
  std::copy_n(tags_.begin(), eight, tags_.begin() + static_cast<std::ptrdiff_t>(size));
  of_bytes_.resize(256 * 256);
  for (std::size_t i = 0; i < of_bytes_.size(); ++i) {
    const Entry found = find(bytes_[i >> 8], bytes_[i & 255]);
    of_bytes_[i] = {found.rank, found.result};
  }
}

void Merger::look_up_in_row(std::size_t i) {
  const MergeTable::Entry found = table_.find(row_.ids[i], row_.ids[i + 1]);
  row_.ranks[i] = found.rank;
  row_.results[i] = found.result;
}

/// The row's first `count` symbols are there.
void Merger::merge_short(std::size_t count, std::vector<std::int32_t>& out) {
  while (count > 1) {
    std::uint32_t best = MergeTable::no_rank;
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < count; ++i) {
      at = row_.ranks[i] < best ? i : at;
      best = std::min(best, row_.ranks[i]);
    }
    if (best == MergeTable::no_rank) break;
    row_.ids[at] = row_.results[at];
    --count;
    for (std::size_t i = at + 1; i < count; ++i) {
      row_.ids[i] = row_.ids[i + 1];
      row_.ranks[i] = row_.ranks[i + 1];
      row_.results[i] = row_.results[i + 1];
    }
    if (at + 1 < count) look_up_in_row(at);
    if (at > 0) look_up_in_row(at - 1);
  }
  out.insert(out.end(), row_.ids.begin(), row_.ids.begin() + static_cast<std::ptrdiff_t>(count));
}

void Merger::look_up(std::size_t i) {
  Symbol& s = symbols_[i];
  if (s.next < 0) {
    s.rank = MergeTable::no_rank;
    return;
  }
  const MergeTable::Entry found = table_.find(s.id, symbols_[static_cast<std::size_t>(s.next)].id);
  s.rank = found.rank;
  s.result = found.result;
}

/// Joins symbol i to its next one and looks up its new neighbours.
void Merger::join(std::size_t i) {
  Symbol& s = symbols_[i];
  Symbol& gone = symbols_[static_cast<std::size_t>(s.next)];
  s.id = s.result;
  s.next = gone.next;
  gone.id = -1;
  if (s.next >= 0) symbols_[static_cast<std::size_t>(s.next)].previous = static_cast<std::int32_t>(i);
  look_up(i);
  if (s.previous >= 0) look_up(static_cast<std::size_t>(s.previous));
}

void Merger::merge_long(std::vector<std::int32_t>& out) {
  for (std::size_t i = 0; i < symbols_.size(); ++i) {
    const auto n = static_cast<std::int32_t>(i);
    symbols_[i].previous = n - 1;
    symbols_[i].next = i + 1 < symbols_.size() ? n + 1 : -1;
  }
  for (std::size_t i = 0; i < symbols_.size(); ++i) look_up(i);
  heap_.clear();
  const auto offer = [&](std::size_t i) {
    if (symbols_[i].rank == MergeTable::no_rank) return;
    heap_.push_back(std::uint64_t{symbols_[i].rank} << 32 | i);
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  };
  for (std::size_t i = 0; i + 1 < symbols_.size(); ++i) offer(i);
  while (!heap_.empty()) {
    const std::uint64_t top = heap_.front();
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    heap_.pop_back();
    const auto i = static_cast<std::size_t>(top & 0xffffffffu);
    if (symbols_[i].id < 0 || symbols_[i].rank != static_cast<std::uint32_t>(top >> 32)) continue;  // since changed
    join(i);
    offer(i);
    if (symbols_[i].previous >= 0) offer(static_cast<std::size_t>(symbols_[i].previous));
  }
  for (std::int32_t i = 0; i >= 0; i = symbols_[static_cast<std::size_t>(i)].next)
    out.push_back(symbols_[static_cast<std::size_t>(i)].id);
}

void Merger::append(std::string_view word, std::vector<std::int32_t>& out) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(word[i]); };
  if (word.size() <= short_word) {
    for (std::size_t i = 0; i < word.size(); ++i) row_.ids[i] = table_.byte(at(i));
    for (std::size_t i = 0; i + 1 < word.size(); ++i) {
      const MergeTable::Merged found = table_.find_bytes(at(i), at(i + 1));
      row_.ranks[i] = found.rank;
      row_.results[i] = found.result;
    }
    return merge_short(word.size(), out);
  }
  symbols_.resize(word.size());
  for (std::size_t i = 0; i < word.size(); ++i) symbols_[i].id = table_.byte(at(i));
  merge_long(out);
}

void Merger::append_ids(std::span<const std::int32_t> ids, std::vector<std::int32_t>& out) {
  if (ids.size() <= short_word) {
    std::copy(ids.begin(), ids.end(), row_.ids.begin());
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) look_up_in_row(i);
    return merge_short(ids.size(), out);
  }
  symbols_.resize(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) symbols_[i].id = ids[i];
  merge_long(out);
}

}  // namespace fourmi
