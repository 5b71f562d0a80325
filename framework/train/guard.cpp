#include "framework/train/guard.h"

namespace fourmi {

namespace {

// So many bad steps one after the other are no accident of the data, but how the run now is.
constexpr std::int64_t most_in_a_row = 8;

[[noreturn]] void stop(std::int64_t step, const std::string& why, const std::string& remedy) {
  throw Error(
      ExitStatus::guard, fmt::format("step {}", step), why,
      remedy + "; the state before this step was not changed, and the same command starts from the newest checkpoint");
}

}  // namespace

Guard::Verdict Guard::judge(const StepResult& r, std::int64_t step, GuardState& state) {
  const SpikeRule rule{section_.spike_z, section_.spike_window};
  SpikeHistory& history = state.history;
  GuardAction action = section_.non_finite;
  spike_z_ = 0;
  if (r.non_finite.empty()) {
    const SpikeFinding found = find_spike(history, rule, r.grad_norm, r.loss, scratch_);
    if (!found.is_spike) {
      add_good_step(history, rule, r.grad_norm, r.loss);
      return Verdict::update;
    }
    spike_z_ = found.z;
    why_ = to_string(found, rule);
    action = section_.spike_action;
  } else {
    why_ = fmt::format("{} (loss {}, gradient norm {}), expected finite numbers", r.non_finite, r.loss, r.grad_norm);
  }
  ++history.in_a_row;
  switch (action) {
    case GuardAction::none:
      narrator_.warn(fmt::format("step {}: {}", step, why_));
      if (history.in_a_row == most_in_a_row) {
        narrator_.warn(fmt::format("{} spikes in a row: this is the run's new level, from which the guard begins anew",
                                   most_in_a_row));
        history = {};
      }
      return Verdict::update;
    case GuardAction::skip:
      if (r.state_is_bad)
        stop(step, why_, "A step that is skipped leaves the weight as it is: set guard.non_finite=rollback");
      if (history.in_a_row > most_in_a_row)
        stop(step,
             fmt::format("{}; the {} steps before were skipped too, expected a good one among them", why_,
                         most_in_a_row),
             "Lower optimizer.learning_rate, or roll back (guard.non_finite, guard.spike.action)");
      narrator_.warn(fmt::format("step {}: {}; its update is skipped", step, why_));
      return Verdict::skip;
    case GuardAction::rollback:
      return Verdict::rollback;
    case GuardAction::stop:
      break;
  }
  stop(step, why_,
       r.non_finite.empty() ? "Lower optimizer.learning_rate, or set guard.spike.action to skip, rollback or none"
                            : "Lower optimizer.learning_rate, or set guard.non_finite to skip or rollback");
}

}  // namespace fourmi
