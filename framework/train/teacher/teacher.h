// A teacher beside the student in one job: before a step's micro-batches its layers run over the same tokens
// (teacher_forward.h), and the student's head learns from its last hidden rows (distill_head.h). Hinton et al. 2015,
// DeepSeek's and others' logit distillation online.
#pragma once

#include <optional>

#include "framework/train/teacher/distill_head.h"
#include "framework/train/teacher/guidance.h"
#include "framework/train/teacher/teacher_forward.h"

namespace fourmi {

class Teacher final : public Guidance {
 public:
  /// As TeacherForward; `student`: a recipe whose distill.mode is online.
  Teacher(const Recipe& student, const StageMap& student_stages, const Mesh& student_mesh, int rank,
          const RankGroups* groups, Arena& arena);

  /// Its weights.
  TeacherForward& forward() { return forward_; }

  void prepare(const Loader& loader, const StepPlan& plan, double share, const Stream& stream) override;
  void forget() override { forward_.forget(); }
  const Objective* objective() const override { return head_ ? &objective_ : nullptr; }
  const Tensor* divergence_M() const override { return head_ ? &head_->divergence_M() : nullptr; }

 private:
  TeacherForward forward_;
  std::optional<DistillHead> head_;
  Objective objective_;
};

}  // namespace fourmi
