// The folder `checkpoints` of a run: names, what a killed save left behind, which checkpoints are kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/checkpoint/disk.h"

namespace fourmi {

/// "step-00000100".
std::string step_name(std::int64_t step);
/// The step of such a name; nothing for other names ("step-00000100.damaged", "latest").
std::optional<std::int64_t> parse_step_name(std::string_view name);
/// Steps of the committed checkpoints, newest first. An absent folder has none.
std::vector<std::int64_t> list_steps(const std::filesystem::path& checkpoints);

/// What MODEL of the command line is: a checkpoint's folder, or a folder of checkpoints (a run directory stands for the
/// one in it). Throws Error(input) if it is neither.
struct ModelPath {
  std::filesystem::path folder;
  bool single = false;  ///< a checkpoint
};
ModelPath find_model(const std::filesystem::path& model);

/// Removes what a killed or failed process left: unfinished saves (*.tmp-*), half deleted checkpoints (*.deleted-*),
/// links (latest.*); puts back a checkpoint that was about to be replaced (*.old-*). Only the owner of the run may call
/// it. What could not be cleaned does no harm; it is said in the texts returned.
std::vector<std::string> clean_leftovers(Disk& disk, const std::filesystem::path& checkpoints);

/// Steps to delete once `newest` is proven: all older ones but the last `keep_last` (newest included, at least 1) and
/// multiples of keep_every_steps (0: none). Steps after `newest` are another branch's: they are left alone.
std::vector<std::int64_t> steps_to_delete(std::span<const std::int64_t> steps, std::int64_t newest,
                                          std::int64_t keep_last, std::int64_t keep_every_steps);

/// Deletes a checkpoint in such a way that a kill in between leaves no half checkpoint under a valid name.
void delete_checkpoint(Disk& disk, const std::filesystem::path& checkpoints, std::int64_t step,
                       const std::string& nonce);

/// Renames step-X to step-X.damaged (step-X.2.damaged ... if taken) and says the new path.
std::filesystem::path set_aside(Disk& disk, const std::filesystem::path& checkpoint);

}  // namespace fourmi
