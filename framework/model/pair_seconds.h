// How long a pair takes, and each of its halves alone, from times of its phases: two lanes beside each other, what the
// rank computes and what travels, in the order that the executor goes through as well (pair_order.h). So it is known
// what overlap gives before anything is overlapped.
//
// What leaves in a phase is under way from there on, on a link of its own, and the phase that needs it waits. The ranks
// that share experts are taken to reach a phase at the same time.
#pragma once

#include <array>
#include <vector>

#include "framework/model/pair_order.h"

namespace fourmi {

/// Of one phase of one layer, in any unit.
struct PhaseSeconds {
  double before = 0;   ///< computed until something leaves; all of it where nothing does
  double travels = 0;  ///< what leaves
  double beside = 0;   ///< computed behind that, while it travels
  double behind = 0;   ///< computed when that has come, where the phase itself waits for it: how many rows will come
                       ///< (attention), gradients of weights (experts_backward)
  double computes() const { return before + beside + behind; }
};
using LayerSeconds = std::array<PhaseSeconds, num_pair_phases>;

/// One half at one stage.
struct HalfSeconds {
  double begin = 0, end = 0;         ///< before its layers and behind them: embedding, head
  std::vector<LayerSeconds> layers;  ///< in the model's order
};

/// Either may be null: the other one alone.
double pair_seconds(const HalfSeconds* forward, const HalfSeconds* backward);

}  // namespace fourmi
