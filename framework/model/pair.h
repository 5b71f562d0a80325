// An overlapped pair: the forward of one micro-batch at a stage and the whole backward of another at another stage of
// the same rank, phase by phase (pair_order.h). What is computed, and in which order gradients are added up, is as if
// forward were done first and backward then: no bit depends on it.
//
// Both halves are under way at once, so forward has a second set of the memory that layers share (Workspace::beside).
#pragma once

#include "framework/model/model.h"
#include "framework/model/pair_order.h"

namespace fourmi {

class PairRunner {
 public:
  struct Half {
    Model& model;
    const StagePass& pass;
  };
  /// Two models over one workspace that has the second set. All outlive it.
  PairRunner(const Stream& stream, Half forward, Half backward, const Context& options);
  /// Once. Forward's losses.
  const BatchLosses& run();

 private:
  void forward(PairPhase phase, std::size_t layer);
  void backward(PairPhase phase, std::size_t layer);
  void move_forward(const Tensor& from, const Tensor& to);

  Half forward_, backward_;
  Context forward_context_, backward_context_;
  Tensor dy_, dx_, other_;  ///< of backward's layer at work; memory for the next one's
};

}  // namespace fourmi
