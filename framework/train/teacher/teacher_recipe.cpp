#include "framework/train/teacher/teacher_recipe.h"

#include "framework/train/mesh_sizes.h"

namespace fourmi {

Recipe teacher_recipe(const Recipe& student) {
  const TeacherSection& t = student.distill.teacher;
  FOURMI_CHECK(t.section, "a teacher whose model nobody has opened");
  Recipe r = student;
  r.model = *t.section;
  r.model.num_nextn_predict_layers = 0;
  r.parallel = t.parallel;
  r.parallel.pipeline_schedule = t.parallel.virtual_stages > 1 ? "interleaved" : "1f1b";
  if (r.parallel.expert > 1) r.parallel.dispatcher = "all-to-all";
  if (t.compute) r.precision.compute = *t.compute;
  r.data.micro_batch_size = t.micro_batch_size.value_or(r.data.micro_batch_size);
  r.guard.precision_every = 0;
  r.distill = {};
  return r;
}

StageMap teacher_stages(const Recipe& teacher) {
  const Schedule schedule = schedule_of(teacher, static_cast<int>(2 * teacher.parallel.pipeline));
  StageMap map;
  map.places = schedule.routes.front();
  const LayerCosts costs = layer_costs(teacher.model, teacher.data.sequence_length);
  map.layers = balance_layers(costs.layers, static_cast<int>(map.places.size()), costs.first, 0);
  return map;
}

void check_teacher_ranks(const Recipe& student, int num_ranks) {
  const Recipe teacher = teacher_recipe(student);
  const ParallelSection& p = teacher.parallel;
  const auto refuse = [](std::string found, std::string expected) {
    throw Error(ExitStatus::usage, "distill.teacher.parallel", std::move(found) + ", " + std::move(expected),
                "Change the teacher's layout, or the number of ranks");
  };
  const std::int64_t least = least_ranks(mesh_sizes(teacher, 1));
  if (num_ranks % least != 0)
    refuse(fmt::format("found {} ranks", num_ranks),
           fmt::format("expected a multiple of the teacher's {} (tensor {} x pipeline {} x context {})", least,
                       p.tensor, p.pipeline, p.context));
  const Mesh mesh(mesh_sizes(teacher, num_ranks));
  teacher_stages(teacher);
  const std::int64_t together = mesh.size(Axis::data) * teacher.data.micro_batch_size;
  for (const auto& [tokens, sequences] : student.data.global_batch_size.over_tokens.steps)
    if (static_cast<std::int64_t>(sequences) % together != 0)
      refuse(fmt::format("found steps of {} sequences", sequences),
             fmt::format("expected a multiple of {}: {} data ranks of the teacher x {} sequences a micro-batch",
                         together, mesh.size(Axis::data), teacher.data.micro_batch_size));
}

std::unique_ptr<RankGroups> make_teacher_groups(const Recipe& student, Group& world) {
  if (!student.distill.online()) return nullptr;
  check_teacher_ranks(student, world.size());
  const Recipe teacher = teacher_recipe(student);
  const std::vector<int> first{teacher_stages(teacher).places.front().rank};
  return std::make_unique<RankGroups>(world, mesh_sizes(teacher, world.size()), first);
}

}  // namespace fourmi
