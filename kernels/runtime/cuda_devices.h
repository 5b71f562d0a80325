// GPUs as a program without CUDA sees them: kernels/cuda/runtime.cpp where CMake's FOURMI_CUDA is on, else
// kernels/cuda_absent/runtime.cpp.
#pragma once

#include <memory>
#include <string>

#include "kernels/runtime/device.h"

namespace fourmi {

struct CudaDevices {
  int count = 0;        ///< those that fourmi supports: compute capability 9.0
  std::string trouble;  ///< why there are none, or why some are not counted; may be empty
};

/// What this build has for GPUs, whether or not the machine has one: "13.0 (sm_90a, PTX of compute_80)"; "none".
std::string cuda_build();

/// Before the process' first look at GPUs: all kernels, those of NVIDIA's libraries too, get onto a GPU when it is
/// opened, and not when they are first launched, which takes memory and time there. For who has kernels that wait for
/// other ranks (kernels/exchange/on_card.h): loading another one may wait for them.
void load_kernels_at_once();

/// Looks, and throws nothing: a machine without a driver has none.
CudaDevices find_cuda_devices();

/// The GPU of this number among those that find_cuda_devices() counted. Throws Error(environment) that says what is
/// missing: a build with CUDA, the driver, a supported card.
std::unique_ptr<DeviceRuntime> open_cuda_device(int index);

}  // namespace fourmi
