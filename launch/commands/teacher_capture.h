// fourmi teacher capture RECIPE.
#pragma once

#include "kernels/runtime/error.h"
#include "launch/command_line.h"

namespace fourmi {

void add_teacher_capture(CLI::App& teacher, ExitStatus& status);

}  // namespace fourmi
