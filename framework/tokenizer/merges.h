// Byte-pair encoding of one word: its bytes, of which the neighbours whose merge was learnt first are joined, the
// leftmost of equals, until no two neighbours have a merge (Sennrich et al. 2016; on bytes: Radford et al. 2019).
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace fourmi {

struct Merge {
  std::int32_t left = 0, right = 0, result = 0;  ///< ids
};

/// All merges; the first was learnt first. Immutable. A hash table with open addressing. Most neighbours have no merge,
/// and the table is larger than the caches near a core: a byte for each slot, of the pair's hash, tells nearly all of
/// them without a look into the table itself, eight slots at once. Two bytes, with which every word begins, have a
/// table of their own.
class MergeTable {
 public:
  /// `bytes`: the id of each byte. Where a pair is listed twice, the later entry counts.
  MergeTable(const std::array<std::int32_t, 256>& bytes, const std::vector<Merge>& merges);

  struct Entry {
    std::uint64_t pair = 0;
    std::uint32_t rank = no_rank;
    std::int32_t result = -1;
  };
  static constexpr std::uint32_t no_rank = ~std::uint32_t{0};

  /// Rank no_rank: the two have no merge.
  Entry find(std::int32_t left, std::int32_t right) const {
    const std::uint64_t pair = pair_of(left, right), hash = hash_of(pair);
    const std::uint64_t tags = std::uint64_t{tag_of(hash)} * ones;
    for (std::size_t i = slot(hash);; i = (i + eight) & mask_) {
      std::uint64_t found;
      std::memcpy(&found, tags_.data() + i, eight);
      for (std::uint64_t same = zero_bytes(found ^ tags); same != 0; same &= same - 1) {
        const Entry& entry = entries_[(i + static_cast<std::size_t>(std::countr_zero(same)) / 8) & mask_];
        if (entry.pair == pair) return entry;
      }
      if (zero_bytes(found) != 0) return {};
    }
  }
  std::int32_t byte(unsigned char b) const { return bytes_[b]; }
  struct Merged {
    std::uint32_t rank = no_rank;
    std::int32_t result = -1;
  };
  Merged find_bytes(unsigned char left, unsigned char right) const { return of_bytes_[std::size_t{left} << 8 | right]; }

 private:
  static constexpr std::uint8_t free_slot = 0;
  static constexpr std::size_t eight = 8;
  static constexpr std::uint64_t ones = 0x0101010101010101u;
  static std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  static std::uint64_t hash_of(std::uint64_t pair) { return pair * 0x9e3779b97f4a7c15u; }
  /// The highest bit of every byte of `x` that is 0, and of some after the first such: those are looked at in vain.
  static std::uint64_t zero_bytes(std::uint64_t x) { return (x - ones) & ~x & (ones << 7); }
  std::size_t slot(std::uint64_t hash) const { return static_cast<std::size_t>(hash >> shift_); }
  /// Of the seven bits below those of the slot.
  std::uint8_t tag_of(std::uint64_t hash) const {
    return static_cast<std::uint8_t>(0x80 | (hash >> (shift_ - 7) & 0x7f));
  }

  std::array<std::int32_t, 256> bytes_;
  std::vector<Merged> of_bytes_;    ///< [left << 8 | right]
  std::vector<std::uint8_t> tags_;  ///< of each slot, and the first eight again at the end
  std::vector<Entry> entries_;
  std::size_t mask_ = 0;
  int shift_ = 0;
};

/// One thread's scratch for merging.
class Merger {
 public:
  explicit Merger(const MergeTable& table) : table_(table) {}
  /// Appends the ids of a word of any length: time n log n in its bytes.
  void append(std::string_view word, std::vector<std::int32_t>& out);
  /// The same of a word that begins as `ids`.
  void append_ids(std::span<const std::int32_t> ids, std::vector<std::int32_t>& out);

 private:
  /// Up to this many symbols a look at all neighbours is quicker than a heap.
  static constexpr std::size_t short_word = 40;
  /// A short word: symbols side by side, of each the merge with the next.
  struct Row {
    std::array<std::int32_t, short_word> ids, results;
    std::array<std::uint32_t, short_word> ranks;
  };
  void look_up_in_row(std::size_t i);
  /// A long word's symbols are a list.
  struct Symbol {
    std::int32_t id, previous, next;  ///< id -1: joined to the one before
    std::uint32_t rank;               ///< of the merge with the next: a check of what the heap says
    std::int32_t result;
  };
  void merge_short(std::size_t count, std::vector<std::int32_t>& out);
  void look_up(std::size_t i);
  void join(std::size_t i);
  void merge_long(std::vector<std::int32_t>& out);

  const MergeTable& table_;
  Row row_;
  std::vector<Symbol> symbols_;
  std::vector<std::uint64_t> heap_;  ///< rank << 32 | position
};

}  // namespace fourmi
