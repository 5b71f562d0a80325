// Rows of this rank's tokens on their way to the ranks that hold their experts, and back (parallel/dispatch). One of it
// serves all layers of a rank in turn.
#pragma once

#include <memory>

#include "framework/model/expert_ranks.h"
#include "kernels/runtime/arena.h"

namespace fourmi {

class ExpertExchange {
 public:
  /// `group`: the ranks of the expert axis; null where memory is only measured. `windows`: where memory that they write
  /// to comes from, for as long as this is. Collective, and so is its end where there is such memory.
  ExpertExchange(Group* group, const ExpertRanks& ranks, const DispatchOptions& options, Arena& arena, Arena& windows);
  /// Another one over the same dispatcher, with memory of its own for a transfer: then each may have one under way.
  ExpertExchange(const ExpertExchange& other, const ExpertRanks& ranks, const DispatchOptions& options, Arena& arena);

  /// Where the chosen experts are; experts_MK stays as it is for as long as the plan is used. Collective.
  void plan(const Stream&, const Tensor& experts_MK, DispatchPlan&);
  /// One transfer at a time: what was started is finished before the next one starts, and tensors that were given stay
  /// as they are until then. The round's rows that arrive here, in `into`; weights_MK and what belongs to them may be
  /// absent.
  void start_dispatch(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& x_MD,
                      const Tensor& weights_MK, const Arrivals& into);
  Arrivals finish_dispatch(const Stream& stream);
  Arrivals dispatch(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& x_MD,
                    const Tensor& weights_MK, const Arrivals& into);
  /// Where sums are cut: of each arrived row its token, numbered over all ranks of the axis.
  Tensor dispatch_tokens(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& into_U1);
  /// The round's tokens of y = the sum over ranks of what they have + first + second.
  void start_combine(const Stream& stream, const DispatchPlan& plan, int round, const Tensor& partial_UD);
  void finish_combine(const Stream& stream, const Tensor& y_MD, const Tensor& first_MD = {},
                      const Tensor& second_MD = {});

  /// As Dispatcher::check().
  void check() const { dispatcher_->check(); }

  const Dispatcher& dispatcher() const { return *dispatcher_; }

 private:
  std::shared_ptr<Dispatcher> dispatcher_;
  void allocate(const ExpertRanks& ranks, const DispatchOptions& options, Arena& arena);
  DispatchBuffers buffers_;
  Transit transit_;   // without a plan: none is under way
  Tensor tokens_M1_;  // i32; absent where nothing is cut
};

}  // namespace fourmi
