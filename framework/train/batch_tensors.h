// A batch of the loader as the tensors that the model reads.
#pragma once

#include "framework/data/batch.h"
#include "framework/model/model.h"

namespace fourmi {

/// Owns the rows; tensors() points into them.
class BatchRows {
 public:
  explicit BatchRows(Batch batch);
  BatchTensors tensors();
  const Batch& batch() const { return batch_; }

 private:
  Batch batch_;
  std::vector<std::int32_t> key_end_;
};

}  // namespace fourmi
