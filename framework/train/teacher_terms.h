// A launch's teacher against ledger.policy, and against the one that the run learned from before.
#pragma once

#include <string>
#include <vector>

#include "framework/ledger/trace.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

/// What the recipe alone tells of its teacher: all there is to tell of an endpoint that was asked before (distill.mode
/// text). Reads the saved copy of the terms. Throws Error(input).
TeacherFact teacher_of_recipe(const Recipe& recipe);

/// Throws Error(usage) naming teacher and clause if the policy refuses it. What is not sure of its terms goes into
/// `teacher.warnings`: they are to be said, and recorded with it. What those ask that it learned from itself, by the
/// ledger of its run, joins its obligations.
void judge_teacher(TeacherFact& teacher, const LedgerSection& policy);

/// Teachers at a path may be trained on between two launches. Empty if `now` has the root of the run's last teacher, or
/// if either has none; else what changed. Throws Error(usage) naming both unless it is to be accepted.
std::string changed_teacher(const Trace& before, const TeacherFact& now, bool accept_changes);

/// The run's own export (section `export`) under the obligations of all that it learned from. Throws Error(usage).
void check_own_export(const Recipe& recipe, const std::vector<TeacherFact>& teachers);

}  // namespace fourmi
