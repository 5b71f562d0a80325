// Which rows of a sequence a rank of the context axis holds: the one place that decides it. The loader's batch, the
// exchanges between ranks and the ranges of keys all ask here.
#pragma once

#include <cstdint>

#include "parallel/share.h"

namespace fourmi {

/// Place `rank` among the `size` ranks that share each sequence of T tokens: a run of T / size of them.
struct SequencePart {
  int rank = 0, size = 1;

  /// Tokens [begin, end) of a sequence.
  Share::Range held(std::int64_t tokens_per_sequence) const { return Share{rank, size}.of(tokens_per_sequence); }
};

}  // namespace fourmi
