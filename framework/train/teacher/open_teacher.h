// The model that distill.teacher.from names: its architecture when the recipe is taken, its weights when the run
// begins.
#pragma once

#include <string>
#include <vector>

#include "framework/checkpoint/load.h"
#include "framework/ledger/teacher_fact.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

/// Nothing unless distill.mode is online. Fills distill.teacher.section from the small files of the model, and holds
/// its tokens against the student's, whose tokenizer is pinned. Throws Error(input) or Error(usage) naming the first
/// token that differs, or what is missing.
void pin_teacher(Recipe& recipe);

/// Collective. The newest proven checkpoint of the teacher; another program's model is imported to
/// <run.directory>/teacher first.
Checkpoint open_teacher(Group& group, const Recipe& recipe, std::vector<std::string>& messages);

/// What the ledger is told of it.
TeacherFact teacher_fact_of(const Recipe& recipe, const Checkpoint& checkpoint);

}  // namespace fourmi
