// The file of a traced step: `<run.directory>/traces/step-<N>.json`, all ranks' lanes on one clock.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/telemetry/trace.h"
#include "parallel/group.h"

namespace fourmi {

/// traces/step-00000042.json
std::filesystem::path trace_path(const std::filesystem::path& run_directory, std::int64_t step);

/// Collective: every rank's text at rank 0, one after another, in the order of the ranks.
void gather_at_first(Group& world, const std::string& mine, const std::function<void(int, const std::string&)>& take);

/// Collective; rank 0 writes. `more`: events that belong to no rank, on rank 0. Throws Error(environment) on rank 0
/// alone, when all have done their part.
void write_trace(Group& world, const std::filesystem::path& run_directory, const TraceLabels& labels,
                 const RankTrace& mine, const std::string& more);

}  // namespace fourmi
