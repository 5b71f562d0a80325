// The card that a test program has: for what runs on it as a whole, beside tests of single operations (mirror.h).
#pragma once

#include <memory>

#include "kernels/runtime/cuda_devices.h"

namespace fourmi::test {

inline DeviceRuntime& card() {
  static const std::unique_ptr<DeviceRuntime> device = open_cuda_device(0);
  return *device;
}

}  // namespace fourmi::test
