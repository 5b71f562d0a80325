// Loading: prove, agree, slice, prove again.
//
// A checkpoint is trusted only when its manifest, the sizes and the SHA-256 of all its files are proven. Tensors are
// then read at the offsets that the proven manifest gives, so no HDF5 parser runs on bytes from outside; every rank
// slices what its own mesh needs. Last, the digest of the live state is proven against the manifest.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/checkpoint/boxes.h"
#include "framework/checkpoint/disk.h"
#include "framework/checkpoint/manifest.h"
#include "parallel/group.h"

namespace fourmi {

struct Checkpoint {
  std::filesystem::path folder;
  Manifest manifest;
};

struct CheckpointChoice {
  std::optional<Checkpoint> checkpoint;  ///< nothing: there is none
  std::vector<std::string> messages;     ///< to be said loudly: newer ones that are damaged, leftovers that stay
};

/// Collective; the same result on all ranks. Rank 0 reads the manifest, the files are proven by all ranks, each by one.
/// Throws DamageError naming the file, and the tensor if it is one's bytes that differ.
Checkpoint prove_checkpoint(Group& group, const std::filesystem::path& folder, Disk& disk = real_disk());

/// Collective (`checkpoint.resume: auto`). The newest checkpoint of the folder <run.directory>/checkpoints that is
/// proven. Damaged newer ones are renamed to *.damaged if this launch owns the run (`owner`, the same on all ranks),
/// else left. If none of several is good: Error(input), nothing renamed.
CheckpointChoice choose_newest(Group& group, const std::filesystem::path& checkpoints, bool owner,
                               Disk& disk = real_disk());

/// Collective. MODEL of the command line: a checkpoint's folder, or a run directory (or its folder `checkpoints`), of
/// which the newest proven one is taken. Throws Error(input) if there is none.
CheckpointChoice open_model(Group& group, const std::filesystem::path& model, Disk& disk = real_disk());

/// Collective. Fills the boxes of this rank from whatever boxes of whatever files hold their elements. A missing
/// tensor, or one of another shape or dtype, throws Error(input) naming it on all ranks.
void load_boxes(Group& group, const Checkpoint& checkpoint, std::span<const Box> wanted, Disk& disk = real_disk());

/// Collective. Proves that the ranks' boxes together are the checkpoint: the same tensors, every element once, equal
/// digests. To be called with the live state before the first step. Throws Error(input) naming the tensor.
void prove_live_state(Group& group, const Checkpoint& checkpoint, std::span<const Box> boxes);

}  // namespace fourmi
