// A simulated schedule for the eye.
#pragma once

#include <string>

#include "parallel/schedule/simulate.h"

namespace fourmi {

/// One line a rank: a forward is its micro-batch's number, its backward the number in brackets, a weight half in dots,
/// a pair both, idle time blank. At most `columns` wide; what does not fit is left out at the end, and the last line
/// says so.
std::string draw_text(const Schedule& schedule, const Simulation& simulation, int columns = 160);

/// The whole of it as a picture.
std::string draw_svg(const Schedule& schedule, const Simulation& simulation);

}  // namespace fourmi
