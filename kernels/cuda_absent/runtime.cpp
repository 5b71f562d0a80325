// In a build without CUDA.
#include "kernels/runtime/cuda_devices.h"
#include "kernels/runtime/error.h"

namespace fourmi {

std::string cuda_build() {
  return "none";
}

void load_kernels_at_once() {}

CudaDevices find_cuda_devices() {
  return {0, "this fourmi was built without CUDA"};
}

std::unique_ptr<DeviceRuntime> open_cuda_device(int) {
  throw Error(ExitStatus::environment, "run.device", "a build without CUDA was found, one with it was expected",
              "Build the preset cuda, or use run.device: cpu");
}

}  // namespace fourmi
