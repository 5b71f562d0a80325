// The model that distill.teacher.from names: its architecture when the recipe is taken, its weights when the run
// begins.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/checkpoint/load.h"
#include "framework/ledger/teacher_fact.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

/// Nothing unless distill.mode is online, or `captures`. Fills distill.teacher.section from the small files of the
/// model, and holds its tokens against the student's, whose tokenizer is pinned. Throws Error(input) or Error(usage)
/// naming the first token that differs, or what is missing.
void pin_teacher(Recipe& recipe, bool captures = false);

/// Collective. The newest proven checkpoint of the teacher; another program's model is imported to `folder` first.
Checkpoint open_teacher(Group& group, const Recipe& recipe, const std::filesystem::path& folder,
                        std::vector<std::string>& messages);

/// The root digest of a run's newest checkpoint, or of a checkpoint, as its manifest says; empty where there is none at
/// that place.
std::string teacher_root(const std::string& from);

/// What the ledger is told of it.
TeacherFact teacher_fact_of(const Recipe& recipe, const Checkpoint& checkpoint);

}  // namespace fourmi
