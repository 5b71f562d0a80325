// What a rank is doing, coarse enough for a person: named in status.json when a rank is lost.
#pragma once

#include <cstdint>
#include <functional>

namespace fourmi {

enum class Phase : int { start, load, forward, backward, optimizer, save, evaluate, exporting };

constexpr const char* name_of(Phase phase) {
  switch (phase) {
    case Phase::start:
      return "start";
    case Phase::load:
      return "load";
    case Phase::forward:
      return "forward";
    case Phase::backward:
      return "backward";
    case Phase::optimizer:
      return "optimizer";
    case Phase::save:
      return "save";
    case Phase::exporting:
      return "export";
    case Phase::evaluate:
      return "evaluate";
  }
  return "?";
}

/// Called on every rank as it enters a phase of a step.
using PhaseObserver = std::function<void(Phase, std::int64_t step)>;

}  // namespace fourmi
