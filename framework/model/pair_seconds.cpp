#include "framework/model/pair_seconds.h"

#include <algorithm>

namespace fourmi {

namespace {

class Lanes {
 public:
  void compute(double seconds) { now_ += seconds; }
  void pass(PairPhase phase, const PhaseSeconds& t) {
    wait_for(phase);
    now_ += t.before;
    const double comes = now_ + t.travels;
    now_ += t.beside;
    switch (phase) {
      case PairPhase::attention:
      case PairPhase::experts_backward:
        now_ = std::max(now_, comes) + t.behind;
        break;
      case PairPhase::rows_leave:
        rows_ = comes;
        break;
      case PairPhase::experts:
        sums_ = comes;
        break;
      case PairPhase::dy_leaves:
        dy_ = comes;
        break;
      case PairPhase::dx_leaves:
        dx_ = comes;
        break;
      default:
        break;
    }
  }
  double now() const { return now_; }

 private:
  void wait_for(PairPhase phase) {
    const double comes = phase == PairPhase::experts              ? rows_
                         : phase == PairPhase::output             ? sums_
                         : phase == PairPhase::experts_backward   ? dy_
                         : phase == PairPhase::attention_backward ? dx_
                                                                  : 0;
    now_ = std::max(now_, comes);
  }
  double now_ = 0;
  double rows_ = 0, sums_ = 0, dy_ = 0, dx_ = 0;  // when what is under way comes
};

}  // namespace

double pair_seconds(const HalfSeconds* forward, const HalfSeconds* backward) {
  Lanes lanes;
  if (forward) lanes.compute(forward->begin);
  if (backward) lanes.compute(backward->begin);
  visit_pair(forward ? forward->layers.size() : 0, backward ? backward->layers.size() : 0,
             [&](PairPhase phase, std::size_t layer) {
               const HalfSeconds& half = is_forward(phase) ? *forward : *backward;
               lanes.pass(phase, half.layers[layer][static_cast<std::size_t>(phase)]);
             });
  if (forward) lanes.compute(forward->end);
  if (backward) lanes.compute(backward->end);
  return lanes.now();
}

}  // namespace fourmi
