// Saving. The only stall of training is the copy of this rank's boxes; a background thread does the local file work,
// and all agreement between ranks happens on the training thread in finish(), because groups serve one thread at a
// time.
//
//   saver.start(boxes, state);                          // collective; snapshot
//   ... steps ...   if (auto done = saver.poll()) ...   // collective, cheap; at a step's end
//   if (saver.pending()) outcome = saver.finish();      // collective; before the next save and at the end
//
// Protocol (docs/checkpoint.md): step-N.tmp-<nonce>/ is filled, forced to the disk and read back by all ranks; they
// agree; rank 0 writes the manifest, renames the folder to step-N, forces the parent to the disk. Older checkpoints are
// deleted only then. A failure or a kill at any point leaves the older ones as they were.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/checkpoint/boxes.h"
#include "framework/checkpoint/disk.h"
#include "framework/checkpoint/manifest.h"
#include "kernels/runtime/arena.h"
#include "parallel/group.h"

namespace fourmi {

struct SaveOptions {
  std::int64_t keep_last = 3;         ///< checkpoints kept beside milestones, at least 1
  std::int64_t keep_every_steps = 0;  ///< milestones that are kept for ever; 0: none
  Disk* disk = &real_disk();
  /// Called on rank 0 when all files are on the disk, before the manifest is written: what it returns becomes the
  /// manifest's ledger_head. What it throws is a failed save.
  std::function<std::string(const Manifest&)> seal = {};
};

/// What became of a save; equal on all ranks but for the seconds.
struct SaveOutcome {
  std::filesystem::path path;  ///< of the checkpoint
  std::int64_t step = 0;
  std::optional<Error> error;  ///< why it was not committed: of the lowest rank that failed (status bug: fourmi's own)
  std::vector<std::string> warnings;  ///< committed, but something beside it failed (`latest`, deleting older ones)
  std::string root;                   ///< root digest
  std::int64_t bytes = 0;             ///< of all ranks' files
  double stall_seconds = 0;           ///< this rank's time in start()
  double write_seconds = 0;           ///< this rank's time in the background

  bool committed() const { return !error; }
};

class CheckpointSaver {
 public:
  /// `checkpoints` is the folder <run.directory>/checkpoints, which all ranks share; the group's ranks own the boxes.
  CheckpointSaver(Group& group, std::filesystem::path checkpoints, SaveOptions options = {});
  /// An unfinished save is abandoned: its folder is left for clean_leftovers.
  ~CheckpointSaver();
  CheckpointSaver(const CheckpointSaver&) = delete;
  CheckpointSaver& operator=(const CheckpointSaver&) = delete;

  /// Local. Takes the memory of the snapshot now and touches it, so that the first save does not stall for it.
  void reserve(std::span<const Box> boxes);
  /// Collective. Copies the boxes; together the ranks' boxes tile each tensor. Nothing may be pending. A failure is
  /// agreed on and reported by finish().
  void start(std::span<const Box> boxes, const CheckpointState& state);
  /// Started and not finished; the same on all ranks.
  bool pending() const;
  /// Collective. The outcome if all ranks have done their file work, else nothing; nothing when nothing is pending.
  std::optional<SaveOutcome> poll();
  /// Collective. Waits for the file work, commits.
  SaveOutcome finish();

 private:
  struct Save;
  Group& group_;
  std::filesystem::path checkpoints_;
  SaveOptions options_;
  std::optional<Arena> snapshot_;  // kept between saves; host memory that a device's copies reach
  Tensor state_;                   // all of it
  std::unique_ptr<Save> save_;
};

/// Collective. start() and finish() in one.
SaveOutcome save_checkpoint(Group& group, const std::filesystem::path& checkpoints, std::span<const Box> boxes,
                            const CheckpointState& state, SaveOptions options = {});

}  // namespace fourmi
