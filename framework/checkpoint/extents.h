// All bytes of a laid-out file in ascending order: the datasets, and the library's metadata between them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "framework/checkpoint/h5_file.h"

namespace fourmi {

struct Extent {
  static constexpr std::ptrdiff_t metadata = -1;
  std::int64_t offset = 0, bytes = 0;
  std::ptrdiff_t dataset = metadata;  ///< index of the dataset whose bytes these are
};

/// The whole file, without gap or overlap. `datasets` are those that the skeleton was made of.
std::vector<Extent> extents_of(const H5Skeleton& skeleton, std::span<const H5Dataset> datasets);

/// Chunks in which files are written, hashed and read back.
inline constexpr std::int64_t chunk_bytes = std::int64_t{4} << 20;

/// Calls visit(extent, first byte inside the extent, number of bytes) over the whole file in chunks.
template <class Visit>
void for_each_chunk(const std::vector<Extent>& extents, Visit&& visit) {
  for (const Extent& e : extents)
    for (std::int64_t done = 0; done < e.bytes; done += chunk_bytes)
      visit(e, done, std::min(chunk_bytes, e.bytes - done));
}

}  // namespace fourmi
