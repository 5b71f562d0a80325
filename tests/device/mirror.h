// A device behind the doors whose tensors are the host's: what an operation is given travels to the card, the operation
// runs there, and its tensors come back. So that a test of an operation is one body for CPU and GPU.
#pragma once

#include <memory>

#include "kernels/runtime/device.h"
#include "kernels/runtime/stream.h"

namespace fourmi::test {

/// The stream of one for this program's card, or null where there is none; `why` says so.
DeviceStream* mirrored_device(std::string* why = nullptr);

}  // namespace fourmi::test
