// `fourmi checkpoint view`: whole tensors of a checkpoint in one HDF5 file, for h5py and other readers that know
// nothing of ranks.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/checkpoint/load.h"

namespace fourmi {

struct View {
  std::int64_t num_tensors = 0, bytes = 0;
};

/// Copies the tensors whose name or alias matches one of `patterns` (* and ?; none: all) of a proven checkpoint into a
/// new file at `out`, which stands alone: the run may delete the checkpoint. Every tensor's digest is proven on the
/// way, what was written is forced to the disk and its structure read back; the file appears under its name only then.
/// Memory: a few MB. Throws Error(usage) if `out` exists or nothing matches, DamageError, Error(environment).
View write_view(const Checkpoint& checkpoint, const std::filesystem::path& out,
                const std::vector<std::string>& patterns, Disk& disk = real_disk());

}  // namespace fourmi
