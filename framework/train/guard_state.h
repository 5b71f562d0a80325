// What the guard remembers from step to step: part of the training state, so that a resumed run judges as the
// undisturbed one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "framework/train/spike.h"

namespace fourmi {

/// Samples that a rollback left out: [first, last) of the run's stream (Position::samples).
struct LeftOut {
  std::int64_t step = 0;  ///< the bad step
  std::int64_t first = 0, last = 0;
  bool operator==(const LeftOut&) const = default;
};

/// A layer that works in bf16 in a run of eight bits, and the step from which on.
struct Promotion {
  std::int64_t step = 0, layer = 0;
  bool operator==(const Promotion&) const = default;
};

struct GuardState {
  SpikeHistory history;
  std::vector<LeftOut> left_out;
  std::vector<Promotion> promoted;
  bool operator==(const GuardState&) const = default;
};

/// One JSON object; numbers parse back to the same doubles.
std::string to_json(const GuardState& state);
/// Throws Error(input) at `place` for anything that to_json does not write.
GuardState guard_state_from_json(std::string_view json, const std::string& place);

}  // namespace fourmi
