// A micro-batch whose rows do not fit into the buffers of every rank goes in rounds: contiguous ranges of tokens, the
// same on all ranks, cut at multiples of a block.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/group.h"

namespace fourmi {

/// What each block of tokens costs: load(kind, block) rows that this rank sends, passes on or receives, choices that
/// it computes.
class BlockLoads {
 public:
  BlockLoads(int num_kinds, std::int64_t num_blocks, int num_ranks);
  std::int64_t num_blocks() const { return num_blocks_; }
  std::int64_t& load(int kind, std::int64_t block) {
    return mine_[static_cast<std::size_t>(kind * num_blocks_ + block)];
  }
  void clear();
  /// Of one rank's loads.
  std::int64_t bytes() const { return static_cast<std::int64_t>(mine_.size() * sizeof(std::int64_t)); }

  /// Collective. The fewest rounds in which no rank has more than most[kind] of any kind; `ends` gets the block after
  /// the last of each. One block of every rank must fit (Dispatcher checks it at the start).
  void choose_rounds(Group& group, std::span<const std::int64_t> most, std::vector<std::int64_t>& ends);

 private:
  std::int64_t num_blocks_;
  std::vector<std::int64_t> mine_, all_, sums_;
};

}  // namespace fourmi
