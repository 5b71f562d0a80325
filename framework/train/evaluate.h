// Loss on held-out text, shared over ranks; the same bits on any number of them.
#pragma once

#include <functional>

#include "framework/data/validation.h"
#include "framework/train/micro_batches.h"
#include "kernels/runtime/stream.h"
#include "parallel/group.h"

namespace fourmi {

struct EvaluationResult {
  double loss = 0;           ///< nats a token
  double loss_mtp = 0;       ///< of the MTP layer's own targets; 0 without one
  std::int64_t tokens = 0;   ///< targets that were counted
  double bits_per_byte = 0;  ///< of the text behind these tokens; 0 for synthetic data
  double perplexity() const;
};

/// Forward of so many micro-batches, wherever the model's stages are.
using ForwardPass = std::function<void(int count, MicroBatches& batches)>;

/// Of the windows, the rank-th of `size` parts.
struct Part {
  int rank = 0, size = 1;
  bool counts = true;  ///< false: another rank finds the same losses, and is the one that counts
};

/// `num_windows` windows spread over the validation data (0: all of it), in batches of `sequences_per_batch`, which the
/// model must be allocated for; sums over `all`, of whom each part's losses come from one rank. Throws Error(usage) if
/// there is no validation data.
EvaluationResult evaluate(const ForwardPass& forward, const Stream& stream, const Validation& validation, Part part,
                          Group& all, std::int64_t num_windows, std::int64_t sequences_per_batch);

}  // namespace fourmi
