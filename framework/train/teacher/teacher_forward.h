// A teacher beside the student in one job: before a step's micro-batches its layers run over the same tokens in a
// layout and precision of their own, its last hidden rows go to the ranks with the student's head, and that learns from
// them (distill_head.h). Teacher forward only; Hinton et al. 2015, DeepSeek's and others' logit distillation online.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "framework/checkpoint/load.h"
#include "framework/data/loader.h"
#include "framework/train/phase.h"
#include "framework/train/teacher/distill_head.h"
#include "framework/train/teacher/row_moves.h"
#include "framework/train/teacher/teacher_stages.h"

namespace fourmi {

class Teacher {
 public:
  /// `student`: a recipe with distill.mode online. `rank` of so many as the meshes have. `groups`: the teacher's
  /// (make_teacher_groups); null where memory is only measured. Memory from `arena`. All outlive it.
  Teacher(const Recipe& student, const StageMap& student_stages, const Mesh& student_mesh, int rank,
          const RankGroups* groups, Arena& arena);

  /// Collective among all ranks: weights from a checkpoint, or as a new run's.
  void load(Group& world, const Checkpoint& checkpoint, const Stream& stream);
  void initialise(std::uint64_t seed, const Stream& stream);

  /// Collective among all ranks. Afterwards the ranks with the student's head have the rows of all of the step's
  /// micro-batches; nothing is done where they have them already.
  void prepare(const Loader& loader, const StepPlan& plan, double share, const Stream& stream);
  /// Of a rank without the student's head: null.
  const Objective* objective() const { return head_ ? &objective_ : nullptr; }
  const DistillHead* head() const { return distill_ ? &*distill_ : nullptr; }

 private:
  class Step;
  const RowMoves& moves(std::int64_t num_samples) const { return moves_.at(num_samples); }
  void exchange(const RowMoves::Round& round, const Tensor& hidden_mD, const Stream& stream) const;

  Recipe recipe_;  // the teacher's
  Mesh mesh_;
  StageMap stages_;
  Coordinates at_;
  const RankGroups* groups_;
  std::map<std::int64_t, RowMoves> moves_;  // by a step's samples
  std::optional<TeacherStages> layers_;
  std::optional<TeacherHead> head_;
  std::optional<DistillHead> distill_;
  Objective objective_;
  Tensor sent_nD_, received_nD_;
  mutable std::vector<std::size_t> to_, from_;  // bytes, by rank
  std::vector<Sample> prepared_;
};

}  // namespace fourmi
