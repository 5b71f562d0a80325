#include "framework/train/training_state.h"

#include <nlohmann/json.hpp>

#include "kernels/runtime/error.h"

namespace fourmi {

std::string to_json(const TrainingState& state) {
  nlohmann::ordered_json j;
  j["position"] = nlohmann::ordered_json::parse(to_json(state.position));
  j["guard"] = nlohmann::ordered_json::parse(to_json(state.guard));
  return j.dump();
}

TrainingState training_state_from_json(std::string_view json, const std::string& place) {
  const nlohmann::ordered_json parsed = nlohmann::ordered_json::parse(json, nullptr, false);
  if (!parsed.is_object())
    throw Error(ExitStatus::input, place, "a training state that is no JSON object, an object was expected");
  TrainingState state;
  // The first checkpoints held the position alone.
  state.position =
      position_from_json(parsed.contains("position") ? parsed["position"].dump() : std::string(json), place);
  if (parsed.contains("guard")) state.guard = guard_state_from_json(parsed["guard"].dump(), place);
  return state;
}

}  // namespace fourmi
