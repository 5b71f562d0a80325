// The teacher's forward as a recipe of its own: its model, layout and precision, on the student's data and ranks. What
// lays a student's model on ranks then lays the teacher's too.
#pragma once

#include <memory>

#include "framework/recipe/recipe.h"
#include "framework/train/stages.h"

namespace fourmi {

/// Of a recipe whose distill.mode is online and whose teacher's architecture is known (TeacherSection::section).
/// Without multi-token prediction, which nobody learns from.
Recipe teacher_recipe(const Recipe& student);

/// Its layers on the ranks of its pipeline. The last stage ends with the last layer: the head works where the student's
/// does.
StageMap teacher_stages(const Recipe& teacher);

/// Throws Error(usage) where the teacher's sizes do not fit so many ranks, or a step's sequences do not fit its data
/// ranks.
void check_teacher_ranks(const Recipe& student, int num_ranks);

/// The teacher's groups: collective among `world`, which outlives them. Null where distill.mode is not online.
std::unique_ptr<RankGroups> make_teacher_groups(const Recipe& student, Group& world);

}  // namespace fourmi
