// A stream's points in time, by events.
#pragma once

#include <vector>

#include "kernels/cuda/stream.h"

namespace fourmi::cuda {

class CudaClock final : public DeviceClock {
 public:
  explicit CudaClock(const CudaStream& stream) : stream_(&stream) {}
  ~CudaClock() override;
  CudaClock(const CudaClock&) = delete;
  CudaClock& operator=(const CudaClock&) = delete;
  std::int32_t mark() override;
  const std::vector<std::int64_t>& read() override;

 private:
  const CudaStream* stream_;
  std::vector<cudaEvent_t> events_;  // kept; the first `used_` are points
  std::size_t used_ = 0;
  std::int64_t begin_ = 0;  // the host's, of the first point
  std::vector<std::int64_t> times_;
};

}  // namespace fourmi::cuda
