// The files of an unfinished import: what is written, what an earlier try left whole.
#pragma once

#include <atomic>
#include <filesystem>
#include <vector>

#include "framework/checkpoint/rank_file.h"
#include "framework/interop/import_plan.h"
#include "parallel/group.h"

namespace fourmi::interop {

/// Collective. Writes every file of the plan into `folder` that is not whole there, each on one rank. On rank 0 the
/// files in order; `kept` is how many were there already (on rank 0). `written(file)` is called after each of this
/// rank's.
std::vector<RankFile> write_files(Group& group, const ImportPlan& plan, const std::filesystem::path& folder, Disk& disk,
                                  std::int64_t& kept, const std::function<void(std::size_t)>& written);

/// Removes the notes of files that are whole.
void remove_notes(const ImportPlan& plan, const std::filesystem::path& folder);

/// Throws Error(input) naming the first second copy that is not what it is a copy of, whose digest is that in `files`.
void prove_copies(const ImportPlan& plan, const WeightSource& stored, const std::vector<RankFile>& files);

}  // namespace fourmi::interop
