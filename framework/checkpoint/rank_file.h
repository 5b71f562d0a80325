// One rank's file: written from a snapshot, forced to the disk, read back and compared.
#pragma once

#include <atomic>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "framework/checkpoint/boxes.h"
#include "framework/checkpoint/disk.h"
#include "framework/checkpoint/manifest.h"

namespace fourmi {

/// What rank 0 needs to know of a rank's file for the manifest.
struct RankFile {
  FileEntry file;
  std::vector<TensorEntry> tensors;  ///< one a box given, with this box if it is not empty (its file index is not set)
};

/// Checks what a caller can get wrong: names, types, shapes. Throws Error(bug).
void check_boxes(std::span<const Box> boxes);

/// Local; may run in a thread of its own. The bytes that came back from the disk are those of the boxes when this
/// returns; any failure throws Error(environment). `abandon` set by another thread makes it throw soon.
RankFile write_rank_file(Disk& disk, const std::filesystem::path& path, std::span<const Box> boxes,
                         const std::atomic<bool>& abandon);

std::string to_text(const RankFile& file);
RankFile parse_rank_file(const std::string& text);

}  // namespace fourmi
