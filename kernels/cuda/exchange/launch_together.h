// Kernels whose blocks wait for what kernels of other ranks write. For .cu files.
#pragma once

#include "kernels/cuda/launch.h"

namespace fourmi::cuda {

/// launch() of a kernel whose blocks all run at once, or the launch fails. Its shared memory is dynamic alone: the
/// emulated card has one variable of a name for all blocks.
template <class... Parameters, class... Arguments>
void launch_together(const CudaStream& stream, void (*kernel)(Parameters...), dim3 blocks, dim3 threads,
                     std::int64_t shared, Arguments... arguments) {
  if (shared > 48 << 10)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
          "shared memory of a kernel");
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = 1;
  const cudaLaunchConfig_t config{blocks, threads, static_cast<std::size_t>(shared), stream.handle(), &together, 1};
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "launching blocks all at once");
}

}  // namespace fourmi::cuda
