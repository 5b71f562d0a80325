// CUDA has two times for it, "eager" and "lazy", and is told which one by its own environment variable, which it reads
// when it begins (CUDA C++ Programming Guide, "Lazy Loading"); it has no call for this that reaches the kernels of
// NVIDIA's libraries too. Kernels of our own alone could be asked for one by one (cudaFuncGetAttributes).
#include "kernels/cuda/loading/loading.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdlib>

#include "kernels/cuda/check.h"
#include "kernels/runtime/cuda_devices.h"

namespace fourmi {

void load_kernels_at_once() {
  setenv("CUDA_MODULE_LOADING", "EAGER", 1);
}

void cuda::require_loaded_kernels() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  check(cudaGetDriverEntryPointByVersion("cuModuleGetLoadingMode", &entry, 12000, cudaEnableDefault, &found),
        "asking how the driver loads kernels");
  CUmoduleLoadingMode mode = CU_MODULE_LAZY_LOADING;
  using Ask = CUresult (*)(CUmoduleLoadingMode*);
  const bool told = found == cudaDriverEntryPointSuccess && reinterpret_cast<Ask>(entry)(&mode) == CUDA_SUCCESS;
  if (told && mode == CU_MODULE_EAGER_LOADING) return;
  throw Error(
      ExitStatus::environment, "parallel.dispatcher",
      "CUDA loads kernels when they are first launched, where kernels of ranks wait for one another all have to "
      "be loaded before",
      "Call load_kernels_at_once() before the first look at GPUs, or choose all-to-all");
}

}  // namespace fourmi
