// What must hold between the keys of `schedule`, and between them and the length of the run.
#pragma once

#include "framework/recipe/issue.h"
#include "framework/recipe/reading.h"

namespace fourmi::recipe {

void schedule_issues(const Reading& reading, Issues& issues);

}  // namespace fourmi::recipe
