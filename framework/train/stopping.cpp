#include "framework/train/stopping.h"

#include <span>

#include "framework/run/signals.h"

namespace fourmi {

namespace {
// Wishes in ascending strength; signals are their number above a base.
constexpr std::int64_t kTime = 2, kBudget = 3, kSignal = 100;
}  // namespace

Stopping::Wish Stopping::agreed(const Progress&) const {
  std::int64_t wish = 0;
  const std::optional<double>& limit = context_.recipe.run.time_seconds;
  if (const int signal = StopSignals::requested())
    wish = kSignal + signal;
  else if (context_.first() && context_.spending->spent())  // what rank 0 knows decides for all
    wish = kBudget;
  else if (limit && seconds_since(launched_) > *limit)
    wish = kTime;
  context_.group.all_max(std::span(&wish, 1));
  if (wish == 0) return {};
  if (wish == kBudget) return {ExitStatus::budget, why_spent()};
  return {ExitStatus::stopped, wish == kTime ? std::string("run.time")
                                             : std::string(StopSignals::name_of(static_cast<int>(wish - kSignal)))};
}

Stopping::Wish Stopping::budget() const {
  std::int64_t spent = context_.first() && context_.spending->spent();
  context_.group.all_max(std::span(&spent, 1));
  return spent ? Wish{ExitStatus::budget, why_spent()} : Wish{};
}

/// The other ranks do not know what earlier launches used up.
std::string Stopping::why_spent() const {
  return context_.first() ? context_.spending->exceeded() : std::string("the budget is spent");
}

}  // namespace fourmi
