// Linear maps by cuBLASLt. matmul.h says which.
#pragma once

#include "kernels/cuda/library/matmul.h"
#include "kernels/cuda/linear_problem.h"

namespace fourmi::cuda::library {

/// False, and nothing is done, where the library is missing, is not to be used, or has no algorithm: ours compute then.
/// Only for what takes() says yes to.
bool multiply(const CudaStream&, const linear::Problem&);

}  // namespace fourmi::cuda::library
