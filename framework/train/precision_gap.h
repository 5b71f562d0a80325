// How far a step in eight bits is from the same in bf16 (docs/precision.md "The guard").
#pragma once

#include <cstdint>

#include "framework/data/loader.h"
#include "framework/train/phase.h"

namespace fourmi {

struct PrecisionGap {
  double loss = 0;               ///< |loss - bf16's| / bf16's, of both losses the larger; infinite: not finite
  double gradient = 0;           ///< |gradient - bf16's| / |bf16's|; infinite: not finite
  bool reference_finite = true;  ///< false: bf16's own are not, and nothing can be said
};

/// What a step's metrics say of it.
struct PrecisionFigures {
  std::int64_t step = 0;  ///< that was compared; 0: none was
  double loss_gap = 0, gradient_gap = 0;
  double operand_error = 0;  ///< the largest of an operand
};

/// The step whose micro-batches are computed. All of it outlives the call.
struct ShadowStep {
  const Loader& loader;
  const StepPlan& plan;
  std::int64_t step;
  double tokens_before;
  const PhaseObserver& observer;
};

}  // namespace fourmi
