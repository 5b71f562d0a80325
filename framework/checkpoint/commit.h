// The part of a save that rank 0 does alone, between two agreements.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/checkpoint/rank_file.h"

namespace fourmi {

/// The manifest of all ranks' files. A tensor that is not tiled by its boxes, or differs between ranks, is a bug.
Manifest merge(const std::vector<RankFile>& files, const CheckpointState& state);

/// Writes the manifest into the unfinished folder and gives the folder its final name; a checkpoint that has the name
/// already is replaced (it is of a branch that was left). When it returns the checkpoint survives a power loss.
void commit(Disk& disk, const Manifest& manifest, const std::filesystem::path& unfinished,
            const std::filesystem::path& final_path, const std::string& nonce);

/// `latest` -> the new checkpoint, and older ones deleted. Failures do no harm to the checkpoint: they are returned.
std::vector<std::string> tidy_up(Disk& disk, const std::filesystem::path& checkpoints, std::int64_t step,
                                 std::int64_t keep_last, std::int64_t keep_every_steps, const std::string& nonce);

}  // namespace fourmi
