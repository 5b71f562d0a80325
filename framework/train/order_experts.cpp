#include "framework/train/order_experts.h"

namespace fourmi {

ExpertOrder::ExpertOrder(const ModelSection& model, const BatchSizes& sizes, DType accumulate, bool apart,
                         StepOrder& order)
    : ranks_(sizes.experts), apart_(apart), order_(order) {
  if (ranks_.alone()) return;
  const ReachableBounds bounds = reachable_bounds(ranks_.size, ranks_.options(model, sizes.shard_rows(), accumulate));
  rows_bounded_ = bounds.rows, choices_bounded_ = bounds.choices;
}

template <class Round>
void ExpertOrder::several(const Round& round) {
  order_.repeated([&] {
    if (shares_columns())
      order_.either([&] { round(true); }, [&] { round(false); });
    else
      round(true);
  });
}

void ExpertOrder::plan() {
  if (!travels()) return;
  if (choices_bounded_) routed(GroupKind::expert, Call::all_to_all);
  if (ranks_.method == DispatchMethod::hierarchical) {
    for (int list_or_masks = 0; list_or_masks < 2; ++list_or_masks) routed(GroupKind::expert_across, Call::all_to_all);
    routed(GroupKind::expert_inside, Call::all_to_all);
  } else {
    routed(GroupKind::expert, Call::all_to_all);
  }
  if (bounded()) routed(GroupKind::expert, Call::all_gather);
}

void ExpertOrder::dispatch(bool with_records) {
  if (!travels()) return;
  const bool hops = ranks_.method == DispatchMethod::hierarchical;
  for (GroupKind group : {hops ? GroupKind::expert_across : GroupKind::expert, GroupKind::expert_inside}) {
    if (group == GroupKind::expert_inside && !hops) return;
    if (with_records) routed(group, Call::all_to_all);
    routed(group, Call::all_to_all);
  }
}

void ExpertOrder::combine() {
  if (!travels()) return;
  if (ranks_.method != DispatchMethod::hierarchical) return routed(GroupKind::expert, Call::all_to_all);
  for (GroupKind group : {GroupKind::expert_inside, GroupKind::expert_across}) routed(group, Call::all_to_all);
}

void ExpertOrder::gather_columns() {
  routed(GroupKind::expert_tensor, Call::all_gather);
}

void ExpertOrder::sum_columns(int parts) {
  for (int part = 0; part < parts; ++part) routed(GroupKind::expert_tensor, Call::all_to_all);
}

void ExpertOrder::bring(bool has_rows) {
  if (has_rows) dispatch(true);
  gather_columns();  // how many rows each expert has
  if (ranks_.cut) {
    if (has_rows) dispatch(false);  // tokens
    gather_columns();
  }
  gather_columns();  // rows
  sum_columns(1);
}

void ExpertOrder::forward() {
  plan();
  if (travels() && shares_columns()) routed(GroupKind::expert_tensor, Call::all_max);
  const auto round = [&](bool has_rows) {
    bring(has_rows);
    if (has_rows) combine();
  };
  // Several begin like one.
  if (bounded())
    several(round);
  else
    round(true);
}

void ExpertOrder::recompute(Recompute mode) {
  const auto one = [&] {
    if (mode == Recompute::full) return bring(true);
    dispatch(false);
    gather_columns();
  };
  // Several rounds are brought again by backward.
  if (bounded())
    order_.maybe(one);
  else
    one();
}

void ExpertOrder::backward_to_gate_up(bool bring_again, bool has_rows) {
  if (bring_again) bring(has_rows);
  if (has_rows) dispatch(false);  // dy
  gather_columns();
}

void ExpertOrder::backward_of_round(bool bring_again, bool has_rows) {
  backward_to_gate_up(bring_again, has_rows);
  if (has_rows) combine();  // of the weights' gradients
  sum_columns(apart_ ? 2 : 1);
  if (has_rows) combine();
}

void ExpertOrder::backward_input() {
  const auto one = [&] { backward_of_round(false, true); };
  if (!bounded()) return one();
  order_.either(one, [&] { several([&](bool has_rows) { backward_of_round(true, has_rows); }); });
}

void ExpertOrder::backward_weight() {
  if (bounded()) order_.maybe_not([&] { several([&](bool has_rows) { backward_to_gate_up(true, has_rows); }); });
}

}  // namespace fourmi
