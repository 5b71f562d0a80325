// A micro-batch's rows as a rank's stages read them: on the host, and where work is on a device, there.
#pragma once

#include "framework/train/batch_tensors.h"
#include "framework/train/micro_batches.h"
#include "kernels/runtime/arena.h"

namespace fourmi {

class StagedRows {
 public:
  /// Of at most so many rows, those of whole sequences; memory on the arena's device.
  StagedRows(std::int64_t most_rows, Arena& arena);

  /// Asks `batches` for this micro-batch, unless it is there already.
  void take(int micro_batch, MicroBatches& batches, const SequencePart& part, const Stream& stream);
  void forget() { micro_batch_ = -1; }
  /// One and the same on the CPU.
  const BatchTensors& on_host() const { return on_host_; }
  const BatchTensors& tensors() const { return tensors_; }

 private:
  BatchRows rows_;
  BatchTensors on_host_, tensors_;
  std::vector<Tensor> on_device_;  // memory for tensors_; none on the CPU
  int micro_batch_ = -1;
};

}  // namespace fourmi
