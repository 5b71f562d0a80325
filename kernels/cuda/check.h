// What CUDA and its libraries answer, as errors that a user can read.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/runtime/error.h"

namespace fourmi::cuda {

/// Throws Error(environment) that says what was tried and what CUDA said.
[[noreturn]] void failed(cudaError_t status, const char* what);

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) [[unlikely]]
    failed(status, what);
}

}  // namespace fourmi::cuda
