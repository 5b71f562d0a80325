// What a recipe may ask of conversations: keys that only they have, and what is not cut where there are none.
#pragma once

#include "framework/recipe/issue.h"
#include "framework/recipe/reading.h"

namespace fourmi::recipe {

void chat_issues(const Reading& reading, Issues& issues);

}  // namespace fourmi::recipe
