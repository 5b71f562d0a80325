// The kernel of to_experts.cu, for who gives it to a stream.
#pragma once

#include "kernels/cuda/exchange/ends.h"
#include "kernels/cuda/stream.h"
#include "kernels/exchange/lanes.h"

namespace fourmi::cuda {

void send_to_experts(const CudaStream&, const Ends&, const exchange::Tokens&, exchange::TokenRun, const RouteTables&,
                     const exchange::ArrivingRows&);

}  // namespace fourmi::cuda
