// What the student's head learns from the teacher's, chunk by chunk of rows (framework/model/objective.h): both models'
// logits are there for one chunk at a time, and nothing of tokens x vocabulary is kept. Multi-token prediction learns
// from its targets alone.
//   Letters as in head.h: C rows of a chunk   V vocabulary columns held here   P ranks of the tensor axis   L leaves
#pragma once

#include "framework/model/objective.h"
#include "framework/train/teacher/head_sums.h"
#include "framework/train/teacher/teacher_head.h"
#include "kernels/ops/divergence.h"

namespace fourmi {

class DistillHead {
 public:
  /// `student`: a recipe with a teacher. `batch`: of its micro-batches. `head`
  /// outlives it.
  DistillHead(const Recipe& student, const BatchSizes& batch, const TeacherHead& head, Arena& arena);

  /// The divergence's share of the loss from here on.
  void set_share(double share) { share_ = share; }
  double share() const { return share_; }
  /// Objective. Losses of the head's rows are their cross-entropies.
  void operator()(const Context& c, const HeadChunk& chunk) const;
  /// Of the micro-batch that the head worked on last: each row's divergence in nats, 0 where the target is -1.
  const Tensor& divergence_M() const { return divergence_M_; }
  const Divergence& divergence() const { return divergence_; }

 private:
  Divergence divergence_;
  double share_ = 1;
  const TeacherHead& head_;
  Tensor all_rows_MD_;                    // of every rank of the tensor axis; absent where this one is alone
  Tensor logits_CV_, max_C_;              // the teacher's
  Tensor teacher_sum_C_, student_sum_C_;  // at the temperature
  Tensor loss_C_, mean_C_;
  HeadSums sums_;
  Tensor divergence_M_;
};

}  // namespace fourmi
