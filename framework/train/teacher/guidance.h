// What a student learns beside the next token: a teacher's distribution, from a model in the same job (teacher.h) or
// from a cache (cached_teacher.h).
#pragma once

#include "framework/data/loader.h"
#include "framework/model/objective.h"
#include "kernels/runtime/arena.h"
#include "kernels/runtime/stream.h"

namespace fourmi {

class Guidance {
 public:
  virtual ~Guidance() = default;
  /// Collective among all ranks, before a step's micro-batches: the ranks with the student's head then have what is
  /// said of the step's rows. `share`: the divergence's in the loss. Nothing is done where they have it already.
  virtual void prepare(const Loader& loader, const StepPlan& plan, double share, const Stream& stream) = 0;
  /// The next step's samples may say the same and have other texts.
  virtual void forget() = 0;
  /// Of a rank without the student's head: null.
  virtual const Objective* objective() const = 0;
  /// Of the micro-batch that the head worked on last: each row's divergence in nats, 0 where the target is -1; null of
  /// a rank without it.
  virtual const Tensor* divergence_M() const = 0;
};

/// Throws Error(environment): what is learned of teachers has no kernels for a card yet. `mode`: of distill.
void refuse_device(const Arena& arena, const char* mode);

}  // namespace fourmi
