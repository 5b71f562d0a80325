#include "kernels/cuda/clock.h"

#include <chrono>

namespace fourmi::cuda {

CudaClock::~CudaClock() {
  for (cudaEvent_t e : events_) cudaEventDestroy(e);
}

std::int32_t CudaClock::mark() {
  if (used_ == events_.size()) {
    cudaEvent_t e = nullptr;
    check(cudaEventCreateWithFlags(&e, cudaEventDefault), "an event");
    events_.push_back(e);
  }
  if (used_ == 0)
    begin_ = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
                 .count();
  check(cudaEventRecord(events_[used_], stream_->handle()), "recording an event");
  return static_cast<std::int32_t>(used_++);
}

const std::vector<std::int64_t>& CudaClock::read() {
  times_.resize(used_);
  if (used_ == 0) return times_;
  check(cudaEventSynchronize(events_[used_ - 1]), "waiting for an event");
  for (std::size_t i = 0; i < used_; ++i) {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, events_[0], events_[i]), "the time between two events");
    times_[i] = begin_ + static_cast<std::int64_t>(static_cast<double>(milliseconds) * 1e6);
  }
  used_ = 0;
  return times_;
}

}  // namespace fourmi::cuda
