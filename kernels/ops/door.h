// The door of an operation (operations.h). For kernels/cpu alone.
#pragma once

#include "kernels/ops/operations.h"

/// First line of an operation: on a stream of a device it is the device's, which gets the same arguments.
#define FOURMI_DOOR(slot, stream, ...) \
  if (::fourmi::DeviceStream* device = (stream).device()) return device->operations().slot(stream, __VA_ARGS__)
