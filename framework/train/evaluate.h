// Loss on held-out text, shared over ranks; the same bits on any number of them.
#pragma once

#include "framework/data/validation.h"
#include "framework/model/model.h"
#include "parallel/group.h"

namespace fourmi {

struct EvaluationResult {
  double loss = 0;           ///< nats a token
  double loss_mtp = 0;       ///< of the MTP layer's own targets; 0 without one
  std::int64_t tokens = 0;   ///< targets that were counted
  double bits_per_byte = 0;  ///< of the text behind these tokens; 0 for synthetic data
  double perplexity() const;
};

/// `num_windows` windows spread over the validation data (0: all of it), in batches of `sequences_per_batch`, which the
/// model must be allocated for. Throws Error(usage) if there is no validation data.
EvaluationResult evaluate(Model& model, const Stream& stream, const Context& options, const Validation& validation,
                          Group& group, std::int64_t num_windows, std::int64_t sequences_per_batch);

}  // namespace fourmi
