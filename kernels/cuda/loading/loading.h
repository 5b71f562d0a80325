// When kernels get onto the GPU.
#pragma once

namespace fourmi::cuda {

/// Throws Error(environment) where CUDA loads a kernel when it is first launched: that may wait for all that runs, and
/// what runs may be a kernel that waits for this rank.
void require_loaded_kernels();

}  // namespace fourmi::cuda
