// Reading parts of a tensor from whatever boxes of whatever files hold them.
#pragma once

#include <filesystem>
#include <span>

#include "framework/checkpoint/disk.h"
#include "framework/checkpoint/manifest.h"

namespace fourmi {

/// Reads a part of a tensor of a proven checkpoint into `out`, which has the part's bytes and its shape. Where both
/// hold whole rows this is one read a box; gaps between short runs are read over. Memory: a few MB. Errors as
/// FileReader's.
void read_part(Disk& disk, const std::filesystem::path& folder, const Manifest& manifest, const TensorEntry& tensor,
               const Rectangle& part, std::byte* out);

/// Reads bytes [begin, begin + out.size()) of the whole tensor in row-major order.
void read_bytes(Disk& disk, const std::filesystem::path& folder, const Manifest& manifest, const TensorEntry& tensor,
                std::int64_t begin, std::span<std::byte> out);

}  // namespace fourmi
