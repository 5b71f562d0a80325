// Byte-pair encoding of one word: its bytes, of which the neighbours whose merge was learnt first are joined, the
// leftmost of equals, until no two neighbours have a merge (Sennrich et al. 2016; on bytes: Radford et al. 2019).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace fourmi {

struct Merge {
  std::int32_t left = 0, right = 0, result = 0;  ///< ids
};

/// All merges; the first was learnt first. Immutable. A hash table with open addressing.
class MergeTable {
 public:
  /// `bytes`: the id of each byte. Where a pair is listed twice, the later entry counts.
  MergeTable(const std::array<std::int32_t, 256>& bytes, const std::vector<Merge>& merges);

  struct Entry {
    std::uint64_t pair = none;
    std::uint32_t rank = no_rank;
    std::int32_t result = -1;
  };
  static constexpr std::uint64_t none = ~std::uint64_t{0};
  static constexpr std::uint32_t no_rank = ~std::uint32_t{0};

  /// Rank no_rank: the two have no merge.
  Entry find(std::int32_t left, std::int32_t right) const {
    const std::uint64_t pair =
        std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
    for (std::size_t i = slot(pair);; i = (i + 1) & mask_)
      if (entries_[i].pair == pair || entries_[i].pair == none) return entries_[i];
  }
  std::int32_t byte(unsigned char b) const { return bytes_[b]; }

 private:
  std::size_t slot(std::uint64_t pair) const {
    return static_cast<std::size_t>((pair * 0x9e3779b97f4a7c15u) >> shift_);
  }
  std::array<std::int32_t, 256> bytes_;
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
  struct Symbol {
    std::int32_t id, previous, next;  ///< id -1: joined to the one before
    std::uint32_t rank;               ///< of the merge with the next; in long words only its check
    std::int32_t result;
  };
  void merge(std::vector<std::int32_t>& out);
  void look_up(std::size_t i);
  void join(std::size_t i);
  void merge_short();
  void merge_long();

  const MergeTable& table_;
  std::vector<Symbol> symbols_;
  std::vector<std::uint64_t> heap_;  ///< rank << 32 | position
};

}  // namespace fourmi
