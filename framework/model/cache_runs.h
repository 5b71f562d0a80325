// Which rows of a decoder's step belong to which text, and where its cache keeps them.
#pragma once

#include <cstdint>
#include <span>

namespace fourmi {

/// Rows [row, row + count) of a step are tokens [length, length + count) of one text, whose cache begins at cache row
/// `base`.
struct CacheRun {
  std::int64_t row = 0, count = 0, base = 0, length = 0;
  std::int64_t end() const { return length + count; }
};
using CacheRuns = std::span<const CacheRun>;

/// What caches are made for.
struct CacheSizes {
  std::int64_t cache_rows = 0;  ///< of all texts together
  std::int64_t text_rows = 0;   ///< of one text at most
  std::int64_t step_rows = 0;   ///< that a step takes at most
};

}  // namespace fourmi
