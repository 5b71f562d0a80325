// In place of kernels/cuda/dynamic_shared.h.
#pragma once

#include "tests/cuda_on_cpu/block.h"

namespace fourmi::cuda {

inline std::byte* dynamic_shared() {
  return cuda_on_cpu::dynamic_shared();
}

}  // namespace fourmi::cuda
