// Which rows of a sequence a rank of the context axis holds: the one place that decides it. The loader's batch and the
// ranges of keys both ask here.
#pragma once

#include <array>
#include <cstdint>

#include "parallel/share.h"

namespace fourmi {

/// Place `rank` among the `size` ranks that share each sequence of T tokens.
struct SequencePart {
  int rank = 0, size = 1;
  /// False: the rank-th run of T / size tokens. True: two runs of half that length, the rank-th from the beginning and
  /// the rank-th from the end, so that causal attention costs every rank the same.
  bool zig_zag = false;

  /// Tokens [begin, end) of a sequence, ascending; the second run is empty where there is one.
  std::array<Share::Range, 2> runs(std::int64_t tokens_per_sequence) const {
    if (!zig_zag) return {Share{rank, size}.of(tokens_per_sequence), {tokens_per_sequence, tokens_per_sequence}};
    return {Share{rank, 2 * size}.of(tokens_per_sequence),
            Share{2 * size - 1 - rank, 2 * size}.of(tokens_per_sequence)};
  }
};

}  // namespace fourmi
