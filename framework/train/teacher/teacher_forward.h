// A teacher's layers over a step's tokens, in a layout and precision of their own; its last hidden rows go to the ranks
// that have the head of "the student": of one that learns from them in the same job, or of what a capture takes.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "framework/checkpoint/load.h"
#include "framework/data/loader.h"
#include "framework/train/teacher/row_moves.h"
#include "framework/train/teacher/teacher_head.h"
#include "framework/train/teacher/teacher_stages.h"

namespace fourmi {

class TeacherForward {
 public:
  /// `student`: a recipe with a teacher whose architecture is known. `rank` of so many as the meshes have. `groups`:
  /// the teacher's (make_teacher_groups); null where memory is only measured. Memory from `arena`. All outlive it.
  TeacherForward(const Recipe& student, const StageMap& student_stages, const Mesh& student_mesh, int rank,
                 const RankGroups* groups, Arena& arena);

  /// Collective among all ranks: weights from a checkpoint, or as a new run's.
  void load(Group& world, const Checkpoint& checkpoint, const Stream& stream);
  void initialise(std::uint64_t seed, const Stream& stream);

  /// Collective among all ranks. Afterwards the ranks with the student's head have the rows of all of the step's
  /// micro-batches; nothing is done where they have them already.
  void prepare(const Loader& loader, const StepPlan& plan, const Stream& stream);
  /// The next step's samples may say the same and have other texts.
  void forget() { prepared_.clear(); }
  /// Of a rank without the student's head: null.
  const TeacherHead* head() const { return head_ ? &*head_ : nullptr; }

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
  Tensor sent_nD_, received_nD_;
  mutable std::vector<std::size_t> to_, from_;  // bytes, by rank
  std::vector<Sample> prepared_;
};

}  // namespace fourmi
