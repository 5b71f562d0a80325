// What GPUs could do, from NVIDIA's datasheets: a run does not measure it (fourmi gpu-check does).
#pragma once

#include <optional>
#include <string_view>

#include "framework/run/machine.h"

namespace fourmi {

/// Of the GPU that its driver calls so ("NVIDIA H200"), dense: half of what datasheets say "with sparsity". Nothing for
/// a name that is not in the table, and for a part of a GPU (MIG), whose name goes on.
std::optional<MachinePeak> gpu_peak(std::string_view name);

}  // namespace fourmi
