// All ranks read the same data, or none trains.
#pragma once

#include <filesystem>

#include "framework/data/loader.h"
#include "framework/data/validation.h"
#include "parallel/group.h"

namespace fourmi {

/// Collective. pin_tokenizer (framework/tokenizer/choose.h) on every rank; the same file on all of them.
void agree_tokenizer(DataSection& data, const std::filesystem::path& run, Group& group);

/// Collective. Every rank opens every input before anything is loaded. Throws Error(input) on all ranks alike, naming
/// rank, host and file where one cannot.
void agree_inputs_open(const DataSection& data, Group& group);

/// Collective. Throws Error(input) on all ranks alike, naming rank and host, where a rank has read something else than
/// rank 0.
void agree_inputs_equal(const Loader& loader, const Validation& validation, Group& group);

}  // namespace fourmi
