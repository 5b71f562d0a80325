// Where the time goes, from a rank's timeline (kernels/runtime/timeline.h), for metrics.jsonl and for people.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "kernels/runtime/timeline.h"

namespace fourmi {

/// "time_attention": seconds of one step, to the microsecond; kinds that took none are left out. They add up to the
/// step's seconds.
std::vector<std::pair<std::string, double>> time_figures(const Timeline::Nanoseconds& step);

/// "experts 28%  attention 31%  ...  other 2%": the greatest first, other last; what is below 0.5% is not named.
std::string time_text(const Timeline::Nanoseconds& nanoseconds);

}  // namespace fourmi
