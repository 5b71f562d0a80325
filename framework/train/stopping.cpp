#include "framework/train/stopping.h"

#include <span>

#include "framework/run/signals.h"

namespace fourmi {

namespace {
// Wishes in ascending strength; signals are their number above a base.
constexpr std::int64_t kTime = 2, kSignal = 100;
}  // namespace

Stopping::Wish Stopping::agreed(const Progress&) const {
  std::int64_t wish = 0;
  const std::optional<double>& limit = context_.recipe.run.time_seconds;
  if (const int signal = StopSignals::requested())
    wish = kSignal + signal;
  else if (limit && seconds_since(launched_) > *limit)
    wish = kTime;
  context_.group.all_max(std::span(&wish, 1));
  if (wish == 0) return {};
  return {ExitStatus::stopped, wish == kTime ? std::string("run.time")
                                             : std::string(StopSignals::name_of(static_cast<int>(wish - kSignal)))};
}

}  // namespace fourmi
