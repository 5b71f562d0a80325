// Spans of a timeline as ranges of NVIDIA's profilers: what the host gives the GPU, under the names of the step's work.
#pragma once

#include "kernels/runtime/timeline.h"

namespace fourmi::cuda {

/// Ranges of the domain "fourmi", with the kind of work as category and the layer as payload. Null where the process
/// runs under no profiler.
SpanObserver* nvtx_ranges();

}  // namespace fourmi::cuda
