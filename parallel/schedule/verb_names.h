// What people call the verbs of a schedule.
#pragma once

#include "parallel/schedule/schedule.h"

namespace fourmi {

inline constexpr std::size_t num_verbs = 5;

/// "forward", "backward_input", ...
inline const char* name_of(Verb verb) {
  constexpr const char* names[num_verbs] = {"forward", "backward", "backward_input", "backward_weight", "pair"};
  return names[static_cast<std::size_t>(verb)];
}

}  // namespace fourmi
