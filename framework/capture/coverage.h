// Which windows a run reads, whatever the size of its steps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/capture/cache.h"
#include "framework/data/loader.h"

namespace fourmi {

/// By source, ascending: the windows that a new run of this recipe reads until it ends; all of them where nothing says
/// when that is.
std::vector<std::vector<std::int64_t>> windows_of_run(const Recipe& recipe, const Loader& loader);

/// Throws Error(input) at `place` naming how many windows of which source a cache lacks of those that the run reads.
void check_covered(const CacheReader& cache, const Recipe& recipe, const Loader& loader, const CaptureHeader& wanted,
                   const std::string& place);

}  // namespace fourmi
