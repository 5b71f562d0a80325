// What a quantiser did, counted after it.
#pragma once

#include "kernels/cuda/stream.h"
#include "kernels/ops/quantize.h"

namespace fourmi::cuda {

/// Adds what became of rows [first, first + count) of x in q to `stats`. The host waits.
void count_quantized(const CudaStream& stream, const Tensor& x, const Tensor& q, std::int64_t first, std::int64_t count,
                     QuantizeStatistics& stats);

}  // namespace fourmi::cuda
