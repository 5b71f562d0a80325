#include "framework/train/staged_rows.h"

#include "kernels/ops/copy.h"

namespace fourmi {

StagedRows::StagedRows(std::int64_t most_rows, Arena& arena) {
  if (arena.device() == Device::cpu) return;
  for (std::size_t i = 0; i < num_batch_tensors; ++i)
    on_device_.push_back(arena.allocate({most_rows}, DType::i32, "rows of the data"));
}

void StagedRows::take(int micro_batch, MicroBatches& batches, const SequencePart& part, const Stream& stream) {
  if (micro_batch_ == micro_batch) return;
  const Span span(stream.timeline(), Work::data, "micro_batch");
  // A copy to the device has left the host's memory when it returns, so that it may be filled again.
  batches.fill(micro_batch, rows_.batch());
  on_host_ = tensors_ = rows_.tensors(part);
  micro_batch_ = micro_batch;
  for (std::size_t i = 0; i < on_device_.size(); ++i) {
    Tensor& t = tensors_.*batch_tensors[i];
    if (!t) continue;
    const Tensor there = on_device_[i].rows(0, t.num_elements()).view(t.shape);
    copy(stream, t, there);
    t = there;
  }
}

}  // namespace fourmi
