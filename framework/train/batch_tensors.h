// A batch of the loader as the tensors that the model reads.
#pragma once

#include <array>
#include <vector>

#include "framework/data/batch.h"
#include "framework/model/model.h"
#include "framework/model/sequence_part.h"

namespace fourmi {

/// Owns the rows; tensors() points into them. Eight i32 a row of the micro-batch and, where ranks share sequences,
/// seven a row of this rank, kept from one micro-batch to the next.
class BatchRows {
 public:
  BatchRows() = default;
  explicit BatchRows(Batch batch) : batch_(std::move(batch)) {}
  /// What the loader fills.
  Batch& batch() { return batch_; }
  const Batch& batch() const { return batch_; }
  /// Of the batch as it is now: the part of each sequence that a rank holds. Tokens, targets and what multi-token
  /// prediction reads were shifted before, so no row needs another rank's.
  BatchTensors tensors(const SequencePart& part = {});

 private:
  Tensor held(const std::vector<std::int32_t>& rows, const SequencePart& part, std::vector<std::int32_t>& mine) const;

  Batch batch_;
  std::vector<std::int32_t> key_end_;
  std::array<std::vector<std::int32_t>, 7> mine_;
};

}  // namespace fourmi
