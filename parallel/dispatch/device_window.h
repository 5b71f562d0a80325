// How a rank's window is laid out for a dispatcher (kernels/exchange/window.h).
#pragma once

#include "kernels/exchange/window.h"
#include "parallel/dispatch/dispatcher.h"

namespace fourmi {

exchange::Window device_window(int num_ranks, const DispatchOptions& options);

/// Where a row's record begins in its slot, in bytes.
std::int64_t record_place(const DispatchOptions& options);

}  // namespace fourmi
