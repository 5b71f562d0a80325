// The order inside an overlapped pair, as data: while rows of one half travel the other computes, and weight gradients
// fill what is left. Forward goes through its layers, backward against them, one of each at a time.
//
//   travels    dy            | x                  | dx                    | y
//   computes   F attention   | B experts          | F experts, B weights  | B weights, B attention with its weights
//
// DeepSeek-V3's profile data, and Megatron's order of issue, have weights under x and experts between x and dx. Here x
// leaves as soon as there is something to send, before backward's experts: both ways are then longer under way, and a
// wait for one is a wait for the other too (docs/pairs.md). The executor (pair.h) and the order of calls that is proven
// before the first step (framework/train/order_pairs.cpp) both go through this list.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace fourmi {

enum class PairPhase : std::uint8_t {
  // Of forward's layer.
  attention,   ///< attention, router, and where the rows go
  rows_leave,  ///< for their experts; the shared expert
  experts,     ///< what came passes its experts; sums leave
  output,      ///< sums have come: the layer's output
  // Of backward's layer.
  dy_leaves,           ///< for the experts of its rows; the shared expert
  experts_backward,    ///< what came passes the experts, backward
  weights,             ///< gradients of the experts' and the router's weights
  dx_leaves,           ///< what the experts give to it
  attention_backward,  ///< dx has come: attention with its weights' gradients
};
inline constexpr std::size_t num_pair_phases = 9;

/// In a trace.
constexpr const char* name_of(PairPhase phase) {
  constexpr std::array names = {"pair_attention", "pair_rows_leave", "pair_experts",
                                "pair_output",    "pair_dy_leaves",  "pair_experts_backward",
                                "pair_weights",   "pair_dx_leaves",  "pair_attention_backward"};
  return names.at(static_cast<std::size_t>(phase));
}

constexpr bool is_forward(PairPhase phase) {
  return phase <= PairPhase::output;
}

/// Of forward's layer i and backward's layer i from its end; `output` is of the layer before, whose sums travelled
/// under the last phase and the first of this turn.
constexpr std::array pair_order = {PairPhase::dy_leaves,  PairPhase::output,           PairPhase::attention,
                                   PairPhase::rows_leave, PairPhase::experts_backward, PairPhase::dx_leaves,
                                   PairPhase::experts,    PairPhase::weights,          PairPhase::attention_backward};

/// visit(phase, layer) in order; layers are counted from 0 in the model's order, of each half for itself. Where one
/// half has more of them, the rest of it goes alone.
template <class Visit>
void visit_pair(std::size_t forward_layers, std::size_t backward_layers, const Visit& visit) {
  for (std::size_t turn = 0; turn <= forward_layers || turn < backward_layers; ++turn)
    for (const PairPhase phase : pair_order) {
      if (phase == PairPhase::output) {
        if (turn > 0 && turn <= forward_layers) visit(phase, turn - 1);
      } else if (is_forward(phase)) {
        if (turn < forward_layers) visit(phase, turn);
      } else if (turn < backward_layers) {
        visit(phase, backward_layers - 1 - turn);
      }
    }
}

}  // namespace fourmi
