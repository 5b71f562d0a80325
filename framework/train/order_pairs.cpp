// The calls of a pair whose halves take turns phase by phase, in the order of framework/model/pair.cpp.
#include "framework/train/order_layers.h"

namespace fourmi {

void LayerOrder::phase(PairPhase phase, std::int64_t layer) {
  begin(layer);
  const bool moe = is_moe(layer);
  switch (phase) {
    case PairPhase::attention:
      attention_forward();
      if (moe) experts_.plan();
      break;
    case PairPhase::rows_leave:
      if (moe) experts_.start_dispatch(true);
      balance(layer, [&] {
        if (has_mlp(layer)) mlp_forward();
      });
      break;
    case PairPhase::experts:
      if (!moe) break;
      experts_.compute(true);
      experts_.start_combine();
      break;
    case PairPhase::output:
      if (moe) experts_.finish_combine();
      break;
    case PairPhase::dy_leaves:
      if (!moe) break;
      experts_.start_dispatch(false);
      if (has_mlp(layer)) mlp_backward([] {});
      break;
    case PairPhase::experts_backward:
      moe ? experts_.compute_backward() : mlp_backward([] {});
      break;
    case PairPhase::weights:
      break;
    case PairPhase::dx_leaves:
      if (moe) experts_.start_combine();
      break;
    case PairPhase::attention_backward:
      if (moe) experts_.finish_combine();
      gather_operand(m_.hidden_size);
      attention_backward();
      panels_.reduce(layer);
      break;
  }
}

void LayerOrder::act_together(const Instruction& f, const Instruction& b) {
  const Stage &forward = stage(f), &backward = stage(b);
  if (forward.first) embedding_forward();
  backward_ends(b, backward, false);
  const auto layers = [](const Stage& s) { return static_cast<std::size_t>(s.end - s.begin); };
  visit_pair(layers(forward), layers(backward), [&](PairPhase p, std::size_t layer) {
    const std::int64_t l = (is_forward(p) ? forward : backward).begin + static_cast<std::int64_t>(layer);
    if (p == PairPhase::dy_leaves) restore(b, backward, l);
    phase(p, l);
  });
  forward_ends(forward);
  if (has_mtp(forward)) holder_ = {f.pass.chunk, f.slot, mtp()};
  if (backward.first) embedding_backward();
}

}  // namespace fourmi
