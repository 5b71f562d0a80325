#include "framework/train/teacher/teacher.h"

namespace fourmi {

Teacher::Teacher(const Recipe& student, const StageMap& student_stages, const Mesh& student_mesh, int rank,
                 const RankGroups* groups, Arena& arena)
    : forward_(student, student_stages, student_mesh, rank, groups, arena) {
  refuse_device(arena, student.distill.mode.c_str());
  if (!forward_.head()) return;
  head_.emplace(student, batch_sizes(student), *forward_.head(), arena);
  objective_ = [this](const Context& c, const HeadChunk& chunk) { (*head_)(c, chunk); };
}

void Teacher::prepare(const Loader& loader, const StepPlan& plan, double share, const Stream& stream) {
  if (head_) head_->set_share(share);
  forward_.prepare(loader, plan, stream);
}

}  // namespace fourmi
