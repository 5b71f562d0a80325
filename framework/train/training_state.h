// What a checkpoint holds beside tensors and decides the rest of the run: JSON in the manifest that enters the root
// digest, so it is equal on all ranks, whatever the layout. Each part is a key; a part that a checkpoint of an earlier
// version lacks begins anew.
#pragma once

#include <string>
#include <string_view>

#include "framework/data/position.h"
#include "framework/train/guard_state.h"

namespace fourmi {

struct TrainingState {
  Position position;  ///< of the data
  GuardState guard;
  bool operator==(const TrainingState&) const = default;
};

/// One line; equal states give equal bytes.
std::string to_json(const TrainingState& state);
/// Throws Error(input) at `place` for anything that to_json does not write.
TrainingState training_state_from_json(std::string_view json, const std::string& place);

}  // namespace fourmi
