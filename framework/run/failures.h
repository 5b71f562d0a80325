// failures.json: the step at which launches of a run ended by an error of their own, one after the other. A scheduler
// that starts the same command again and again does not help there: after the third a person must look.
#pragma once

#include <cstdint>
#include <filesystem>

#include "framework/run/status.h"

namespace fourmi {

/// A launch ended after `step` (its last complete one). Counts the exit statuses 1, 3, 4 and 5 once steps were made;
/// what came from outside (a signal, a lost rank, a hang) counts neither for nor against. Never throws: the launch is
/// ending.
void note_failure(const std::filesystem::path& run_directory, std::int64_t launch, std::int64_t step,
                  const Ending& ending) noexcept;

/// Throws Error(guard) if three launches failed at the same step, unless the person has `changed` something (a key of
/// the recipe, or
/// --accept-changes): then the count begins anew.
void refuse_repeated_failure(const std::filesystem::path& run_directory, bool changed);

}  // namespace fourmi
