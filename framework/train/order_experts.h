// What the routed experts of a layer call (framework/model/experts.cpp), verb by verb, in its order. Rows go where the
// router sends them, so bytes are not known, nor is how many rounds a micro-batch takes where a bound can be reached.
#pragma once

#include "framework/model/context.h"
#include "parallel/order/step_order.h"

namespace fourmi {

class ExpertOrder {
 public:
  /// `apart`: Leaves::apart.
  ExpertOrder(const ModelSection& model, const BatchSizes& sizes, DType accumulate, bool apart, StepOrder& order);

  void forward();
  void recompute(Recompute mode);
  void backward_input();
  /// Where gradients are not formed at once (Context::halves_apart).
  void backward_weight();

 private:
  bool travels() const { return order_.size(GroupKind::expert) > 1; }
  bool shares_columns() const { return order_.size(GroupKind::expert_tensor) > 1; }
  /// round(has_rows), several times. Ranks with other experts may need more rounds than this one has rows for, where
  /// they share columns.
  template <class Round>
  void several(const Round& round);

  void routed(GroupKind group, Call call) { order_.call(group, call, StepOrder::routed); }
  bool bounded() const { return rows_bounded_ || choices_bounded_; }
  void plan();
  void dispatch(bool with_records);
  void combine();
  void gather_columns();
  void sum_columns(int parts);
  void bring(bool has_rows);
  void backward_to_gate_up(bool bring_again, bool has_rows);
  void backward_of_round(bool bring_again, bool has_rows);

  ExpertRanks ranks_;
  bool rows_bounded_ = false, choices_bounded_ = false, apart_;
  StepOrder& order_;
};

}  // namespace fourmi
