// What the routed experts of a layer call (framework/model/experts.cpp), verb by verb, in its order. Rows go where the
// router sends them, so bytes are not known, nor is how many rounds a micro-batch takes where a bound can be reached.
#pragma once

#include <functional>

#include "framework/model/context.h"
#include "parallel/order/step_order.h"

namespace fourmi {

class ExpertOrder {
 public:
  /// `apart`: Leaves::apart.
  ExpertOrder(const ModelSection& model, const BatchSizes& sizes, DType accumulate, bool apart, StepOrder& order);

  /// As Experts does it: where rows go, they leave, they pass their experts and sums leave, sums have come. Of more
  /// rounds than one all is in the last.
  /// `meanwhile`: what others call while rows of one round are on their way, or before those of several.
  void forward(const std::function<void()>& meanwhile);
  void recompute(Recompute mode);
  void backward_input(const std::function<void()>& meanwhile);
  /// Where gradients are not formed at once (Context::halves_apart).
  void backward_weight();

  /// Parts of forward and backward_input, where a micro-batch takes one round.
  void plan();
  void start_dispatch(bool with_records);
  /// As what was dispatched arrives; others may hold experts of which this rank has no rows.
  void compute(bool has_rows);
  void compute_backward();
  void start_combine();
  void finish_combine();

 private:
  void finish_dispatch(bool with_records);
  bool travels() const { return order_.size(GroupKind::expert) > 1; }
  bool shares_columns() const { return order_.size(GroupKind::expert_tensor) > 1; }
  /// round(has_rows), several times. Ranks with other experts may need more rounds than this one has rows for, where
  /// they share columns.
  template <class Round>
  void several(const Round& round);
  /// What is done where a micro-batch takes one round.
  template <class One>
  void of_one_round(const One& one);

  void routed(GroupKind group, Call call) { order_.call(group, call, StepOrder::routed); }
  bool bounded() const { return rows_bounded_ || choices_bounded_; }
  void dispatch(bool with_records) {
    start_dispatch(with_records);
    finish_dispatch(with_records);
  }
  void combine() {
    start_combine();
    finish_combine();
  }
  void gather_columns();
  void sum_columns(int parts);
  bool has_hops() const { return knows_nodes(ranks_.method); }
  /// What crosses nodes goes in chunks, a call each.
  template <class Crossing>
  void for_chunks(const Crossing& crossing) {
    for (int c = 0; c < num_chunks_; ++c) crossing();
  }
  void bring(bool has_rows);
  void to_gate_up();
  void backward_to_gate_up(bool has_rows);
  void to_dx(bool has_rows);

  ExpertRanks ranks_;
  bool rows_bounded_ = false, choices_bounded_ = false, apart_;
  int num_chunks_ = 1;
  StepOrder& order_;
};

}  // namespace fourmi
