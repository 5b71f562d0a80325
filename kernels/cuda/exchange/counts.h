// The kernels of counts.cu, for who gives them to a stream.
#pragma once

#include "kernels/cuda/exchange/ends.h"
#include "kernels/cuda/stream.h"
#include "kernels/exchange/lanes.h"

namespace fourmi::cuda {

void count_rows(const CudaStream&, const Ends&, const exchange::Tokens&, exchange::TokenRun, std::uint64_t announcement,
                int round, const RouteTables&);

}  // namespace fourmi::cuda
