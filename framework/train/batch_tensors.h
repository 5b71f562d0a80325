// A batch of the loader as the tensors that the model reads.
#pragma once

#include "framework/data/batch.h"
#include "framework/model/model.h"

namespace fourmi {

/// Owns the rows; tensors() points into them. Eight i32 a row of the micro-batch, kept from one micro-batch to the
/// next.
class BatchRows {
 public:
  BatchRows() = default;
  explicit BatchRows(Batch batch) : batch_(std::move(batch)) {}
  /// What the loader fills.
  Batch& batch() { return batch_; }
  const Batch& batch() const { return batch_; }
  /// Of the batch as it is now.
  BatchTensors tensors();

 private:
  Batch batch_;
  std::vector<std::int32_t> key_end_;
};

}  // namespace fourmi
