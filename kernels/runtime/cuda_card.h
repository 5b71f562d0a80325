// What people ask of a GPU: facts for a report, and whether NVIDIA's libraries compute in place of our kernels.
// kernels/cuda/card.cpp where CMake's FOURMI_CUDA is on, else kernels/cuda_absent/card.cpp.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "kernels/runtime/device.h"

namespace fourmi {

/// Name and value, of the GPU with this number among those that find_cuda_devices() counted.
/// Throws Error(environment) where there is none.
std::vector<std::pair<std::string, std::string>> cuda_card_facts(int index);

/// From here on operations on this stream call NVIDIA's libraries where they can (`use`), or never. False where there
/// is none to call: then nothing changes.
bool use_cuda_libraries(DeviceStream& stream, bool use);

}  // namespace fourmi
