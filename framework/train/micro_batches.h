// Whoever gives micro-batches to a model, or to the stages of one, and takes their losses.
#pragma once

#include "framework/data/batch.h"
#include "framework/model/model.h"
#include "parallel/schedule/schedule.h"

namespace fourmi {

class MicroBatches {
 public:
  virtual ~MicroBatches() = default;
  /// Micro-batch `index` of this data rank, whole sequences.
  virtual void fill(int index, Batch& batch) = 0;
  /// After the forward of one stage with a micro-batch, of which `rows` are this rank's; losses are absent where the
  /// stage has no head.
  virtual void take(const BatchLosses& losses, const BatchTensors& rows) = 0;
  /// Before each action.
  virtual void enter(Verb) {}
};

}  // namespace fourmi
