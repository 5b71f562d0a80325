#include "framework/train/order_experts.h"

namespace fourmi {

ExpertOrder::ExpertOrder(const ModelSection& model, const BatchSizes& sizes, DType accumulate, bool apart,
                         StepOrder& order)
    : ranks_(sizes.experts), apart_(apart), order_(order) {
  if (ranks_.alone()) return;
  const DispatchOptions options = ranks_.options(model, sizes.shard_rows(), accumulate);
  const ReachableBounds bounds = reachable_bounds(ranks_.size, options);
  if (ranks_.method == DispatchMethod::rail) num_chunks_ = options.num_channels;
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

template <class One>
void ExpertOrder::of_one_round(const One& one) {
  if (bounded())
    order_.maybe(one);
  else
    one();
}

void ExpertOrder::plan() {
  if (!travels()) return;
  if (choices_bounded_) routed(GroupKind::expert, Call::all_to_all);
  if (has_hops()) {
    for (int list_or_masks = 0; list_or_masks < 2; ++list_or_masks) routed(GroupKind::expert_across, Call::all_to_all);
    if (ranks_.method == DispatchMethod::hierarchical || bounded()) routed(GroupKind::expert_inside, Call::all_to_all);
  } else if (ranks_.method != DispatchMethod::device || bounded()) {
    routed(GroupKind::expert, Call::all_to_all);
  }
  if (bounded()) routed(GroupKind::expert, Call::all_gather);
  // Counts go by way of memory when rounds are known, as the rows do: not a collective, but ordered and counted as one.
  if (ranks_.method == DispatchMethod::device) routed(GroupKind::expert, Call::all_to_all);
  if (ranks_.method == DispatchMethod::rail) routed(GroupKind::expert_inside, Call::all_to_all);
  if (shares_columns()) routed(GroupKind::expert_tensor, Call::all_max);  // of their rounds
}

void ExpertOrder::start_dispatch(bool with_records) {
  if (!travels()) return;
  const GroupKind group = has_hops() ? GroupKind::expert_across : GroupKind::expert;
  for_chunks([&] {
    if (with_records) routed(group, Call::all_to_all);
    routed(group, Call::all_to_all);
  });
}

void ExpertOrder::finish_dispatch(bool with_records) {
  if (!travels() || !has_hops()) return;
  if (with_records) routed(GroupKind::expert_inside, Call::all_to_all);
  routed(GroupKind::expert_inside, Call::all_to_all);
}

void ExpertOrder::start_combine() {
  if (travels()) routed(has_hops() ? GroupKind::expert_inside : GroupKind::expert, Call::all_to_all);
}

void ExpertOrder::finish_combine() {
  if (!travels() || !has_hops()) return;
  for_chunks([&] { routed(GroupKind::expert_across, Call::all_to_all); });
}

void ExpertOrder::gather_columns() {
  routed(GroupKind::expert_tensor, Call::all_gather);
}

void ExpertOrder::sum_columns(int parts) {
  for (int part = 0; part < parts; ++part) routed(GroupKind::expert_tensor, Call::all_to_all);
}

void ExpertOrder::compute(bool has_rows) {
  if (has_rows) finish_dispatch(true);
  gather_columns();  // how many rows each expert has
  if (ranks_.cut) {
    if (has_rows) dispatch(false);  // tokens
    gather_columns();
  }
  gather_columns();  // rows
  sum_columns(1);
}

void ExpertOrder::bring(bool has_rows) {
  if (has_rows) start_dispatch(true);
  compute(has_rows);
}

void ExpertOrder::forward(const std::function<void()>& meanwhile) {
  plan();
  of_one_round([&] { start_dispatch(true); });
  meanwhile();
  const auto one = [&] {
    compute(true);
    combine();
  };
  if (!bounded()) return one();
  order_.either(one, [&] {
    several([&](bool has_rows) {
      bring(has_rows);
      if (has_rows) combine();
    });
  });
}

void ExpertOrder::recompute(Recompute mode) {
  // Several rounds are brought again by backward.
  of_one_round([&] {
    if (mode == Recompute::full) return bring(true);
    dispatch(false);
    gather_columns();
  });
}

/// Behind dy.
void ExpertOrder::to_gate_up() {
  gather_columns();
}

/// Of one of several rounds, which is brought again.
void ExpertOrder::backward_to_gate_up(bool has_rows) {
  bring(has_rows);
  if (has_rows) dispatch(false);  // dy
  to_gate_up();
}

/// Up to where the rows' part of dx leaves.
void ExpertOrder::to_dx(bool has_rows) {
  if (has_rows) start_combine();  // of the weights' gradients
  sum_columns(apart_ ? 2 : 1);
  if (has_rows) finish_combine();
}

void ExpertOrder::compute_backward() {
  finish_dispatch(false);
  to_gate_up();
  to_dx(true);
}

void ExpertOrder::backward_input(const std::function<void()>& meanwhile) {
  of_one_round([&] { start_dispatch(false); });  // dy
  meanwhile();
  const auto one = [&] {
    compute_backward();
    combine();
  };
  if (!bounded()) return one();
  order_.either(one, [&] {
    several([&](bool has_rows) {
      backward_to_gate_up(has_rows);
      to_dx(has_rows);
      if (has_rows) combine();
    });
  });
}

void ExpertOrder::backward_weight() {
  if (bounded()) order_.maybe_not([&] { several([&](bool has_rows) { backward_to_gate_up(has_rows); }); });
}

}  // namespace fourmi
