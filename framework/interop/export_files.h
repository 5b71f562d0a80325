// One file of an export, from a checkpoint's tensors.
#pragma once

#include <filesystem>

#include "framework/checkpoint/load.h"
#include "framework/interop/export_plan.h"

namespace fourmi::interop {

/// A new file, on the disk when this returns. Memory: rows of 128 of one weight, and its scales. The bytes of the
/// checkpoint's tensors that were read.
std::int64_t write_export_file(Disk& disk, const Checkpoint& checkpoint, const ExportedFile& file,
                               const std::filesystem::path& folder);

}  // namespace fourmi::interop
