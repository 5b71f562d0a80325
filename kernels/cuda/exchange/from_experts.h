// The kernel of from_experts.cu, for who gives it to a stream.
#pragma once

#include "kernels/cuda/exchange/ends.h"
#include "kernels/cuda/stream.h"
#include "kernels/exchange/lanes.h"

namespace fourmi::cuda {

/// tokens: whose experts tell where copies are; its rows are not used.
void bring_from_experts(const CudaStream&, const Ends&, const exchange::Tokens& tokens, exchange::TokenRun,
                        const RouteTables&, const Tensor& partial_UD, const Tensor& y_MD, const Tensor& first_MD,
                        const Tensor& second_MD);

}  // namespace fourmi::cuda
