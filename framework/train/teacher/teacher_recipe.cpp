#include "framework/train/teacher/teacher_recipe.h"

#include "framework/recipe/check_context.h"
#include "framework/recipe/check_expert.h"
#include "framework/recipe/check_precision.h"
#include "framework/recipe/check_tensor.h"
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
  // It has no gradients, and rows travel in eight bits only where they are computed in them.
  r.precision.gradient_block = GradientBlock::row;
  if (!is_fp8(r.precision.compute)) r.precision.dispatch = DispatchFormat::bf16;
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

namespace {

/// `key`: of a recipe that trains, the teacher's being the same below distill.teacher.
[[noreturn]] void refuse_teacher(const std::string& key, std::string found, std::string expected) {
  std::string place = "distill.teacher.parallel";
  if (key.starts_with("parallel.")) place = "distill.teacher." + key;
  if (key.starts_with("precision.")) place = "distill.teacher.precision";
  if (key.starts_with("model.")) place = "distill.teacher.from";
  throw Error(ExitStatus::usage, place, std::move(found) + ", " + std::move(expected) + ", of the teacher",
              "Change the teacher's layout or precision, or the number of ranks");
}

/// What its axes and its precision ask of its sizes, as of a student's.
void check_teacher_sizes(const Recipe& teacher, int num_ranks) {
  const auto refuse = [](const std::string& key, std::string found, std::string expected) {
    refuse_teacher(key, std::move(found), std::move(expected));
  };
  recipe::precision_issues(teacher, refuse);
  recipe::tensor_issues(teacher, refuse);
  recipe::context_issues(teacher, [&](const std::string& key, std::string found, std::string expected, std::string) {
    refuse(key, std::move(found), std::move(expected));
  });
  recipe::expert_issues(teacher, refuse);
  recipe::expert_rank_issues(teacher, num_ranks, refuse);
  const ParallelSection& p = teacher.parallel;
  if (p.virtual_stages > 1 && p.pipeline == 1)
    refuse("parallel.virtual_stages", fmt::format("found {} virtual stages without a pipeline", p.virtual_stages),
           "expected 1, or distill.teacher.parallel.pipeline");
}

}  // namespace

void check_teacher_ranks(const Recipe& student, int num_ranks) {
  const Recipe teacher = teacher_recipe(student);
  const ParallelSection& p = teacher.parallel;
  const auto refuse = [](std::string found, std::string expected) {
    refuse_teacher("", std::move(found), std::move(expected));
  };
  const std::int64_t least = least_ranks(mesh_sizes(teacher, 1));
  if (num_ranks % least != 0)
    refuse(fmt::format("found {} ranks", num_ranks),
           fmt::format("expected a multiple of the teacher's {} (tensor {} x pipeline {} x context {})", least,
                       p.tensor, p.pipeline, p.context));
  check_teacher_sizes(teacher, num_ranks);
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
