// Where a run's sums are cut.
#pragma once

#include "framework/model/context.h"

namespace fourmi {

/// Mode layout cuts every sum over tokens by 1/16 of a sequence (docs/numerics.md L3, L5); mode run has as few cuts as
/// the work allows. `refused`: where to say that a partial sum is not finite or too large for an exact one.
Context cuts_of(const Recipe& recipe, std::int32_t* refused);

}  // namespace fourmi
