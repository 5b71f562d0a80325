// `fourmi checkpoint list | show | verify`: what there is, and what is wrong with it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "framework/checkpoint/manifest.h"

namespace fourmi {

struct CheckpointReport {
  std::filesystem::path folder;
  std::optional<Manifest> manifest;  ///< nothing if it is damaged
  std::optional<Error> problem;
  std::vector<std::string> extra;  ///< entries of the folder that are not the checkpoint's
  double seconds = 0;              ///< that the proof took

  bool good() const { return !problem; }
};

/// How much is proven.
enum class Proof {
  listing,  ///< the manifest, and that all files are there with their sizes
  full,     ///< also every file's SHA-256, every box's digest from the file's bytes, and HDF5's view of the files
};

/// The checkpoints that MODEL stands for, newest first (all of a run directory). Damage is reported, not thrown; throws
/// Error(input) if there are none, and what is no damage (Error(environment), a newer format).
std::vector<CheckpointReport> inspect(const std::filesystem::path& model, Proof proof);

std::string list_text(const std::vector<CheckpointReport>& reports);
std::string verify_text(const std::vector<CheckpointReport>& reports);
/// {"ok": ..., "proof": "listing" | "full", "checkpoints": [...]}, one object for both.
std::string list_json(const std::vector<CheckpointReport>& reports, Proof proof);
/// One checkpoint with its tensors and its state; `remarks`: lines on the state.
std::string show_text(const CheckpointReport& report, const std::string& remarks = {});
std::string show_json(const CheckpointReport& report);

}  // namespace fourmi
