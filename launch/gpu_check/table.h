// The parts of `fourmi gpu-check`, in the order in which they run.
#pragma once

#include "launch/gpu_check/part.h"
#include "launch/gpu_check/places.h"

namespace fourmi::gpu_check {

/// One line a part: what it is called, what it does, at most how long, and how.
std::vector<Part> parts(const Places& places);

/// What a part does in a process of its own (`fourmi gpu-check --part NAME`), on GPU 0: figures, a line each.
/// Throws Error(usage) for a name that is none.
void measure_here(const std::string& name, std::int64_t from);

/// In a process of its own, within a time: is there a GPU that fourmi runs on? Throws Error(environment) if not.
void require_gpu(const Places& places);

// Each in the file of its name.
Outcome check_facts(const Job& job, const Places& places);
Outcome check_under_sanitizer(const Job& job, const Places& places);
Outcome check_training_speed(const Job& job, const Places& places);
/// The command of one of its two runs, for a device and a compute format.
std::vector<std::string> training_speed_words(const Places& places, const std::string& compute,
                                              const std::string& device);
Outcome check_curve(const Job& job, const Places& places);

}  // namespace fourmi::gpu_check
