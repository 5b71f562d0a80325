// The shared memory that a launch gave to a block. For .cu files.
#pragma once

#include <cstddef>

namespace fourmi::cuda {

/// Aligned to 1024 bytes, which is what tensor-map swizzles ask for.
__device__ inline std::byte* dynamic_shared() {
  extern __shared__ __align__(1024) std::byte memory[];
  return memory;
}

}  // namespace fourmi::cuda
