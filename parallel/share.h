// Which part of a cut dim a rank holds: the ranks of an axis hold equal runs of its units (heads, experts, intermediate
// columns), in order.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fourmi {

/// Place `rank` among `size` along one axis of the mesh.
struct Share {
  int rank = 0, size = 1;

  struct Range {
    std::int64_t begin = 0, end = 0;
    std::int64_t count() const { return end - begin; }
  };
  /// Of `units` that the size divides.
  Range of(std::int64_t units) const {
    const std::int64_t each = units / size;
    return {rank * each, (rank + 1) * each};
  }
};

/// A dim that some axis may cut has this many leaves: the largest power of two up to 8 that divides its units. An axis'
/// size divides it (docs/numerics.md L1).
constexpr std::int64_t num_leaves(std::int64_t units) {
  std::int64_t leaves = 8;
  while (units % leaves != 0) leaves /= 2;
  return leaves;
}

/// The vocabulary always has 8 leaves of equal length: what is missing at its end is padded, in memory alone. No
/// optimizer, checkpoint or norm knows the padded rows; their weights are zero and their logits -infinity.
constexpr std::int64_t vocabulary_leaves = 8;
struct VocabularyShare {
  Share::Range held;             ///< tokens whose rows this rank holds
  std::int64_t padded_rows = 0;  ///< rows in memory, the same on every rank
};
constexpr VocabularyShare vocabulary_share(std::int64_t vocab_size, Share share) {
  const std::int64_t leaf = (vocab_size + vocabulary_leaves - 1) / vocabulary_leaves;
  const std::int64_t each = leaf * vocabulary_leaves / share.size;
  return {{std::min(vocab_size, share.rank * each), std::min(vocab_size, (share.rank + 1) * each)}, each};
}

/// This rank along the axes that cut tensors.
struct Shares {
  Share tensor, expert, expert_tensor;
};

}  // namespace fourmi
