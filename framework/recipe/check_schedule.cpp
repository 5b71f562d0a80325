#include "framework/recipe/check_schedule.h"

#include <utility>

namespace fourmi::recipe {
namespace {

class ScheduleChecks {
 public:
  ScheduleChecks(const Reading& reading, Issues& issues)
      : reading_(reading), s_(reading.recipe.schedule), issues_(issues) {}

  void run() {
    for (const char* key : {"schedule.name", "schedule.warmup_fraction", "schedule.horizon_steps", "run.epochs"})
      if (!good(key)) return;
    if (!unit()) return;
    fraction();
    horizon();
    s_.name == "constant" ? no_decay() : decay();
  }

 private:
  bool good(const std::string& key) const { return reading_.good(key); }
  bool given(const std::string& key) const { return reading_.given(key); }
  bool knows_horizon() const { return given("run.epochs") || s_.horizon_steps; }
  void refuse(const std::string& key, std::string found, std::string expected, std::string remedy = {}) {
    issues_.add(reading_.place(key), std::move(found), std::move(expected), std::move(remedy));
  }

  /// Steps or tokens; false: nothing more can be said.
  bool unit() {
    static const std::string in_steps[] = {"schedule.warmup_steps", "schedule.decay_start_step",
                                           "schedule.decay_end_step"};
    static const std::string in_tokens[] = {"schedule.warmup_tokens", "schedule.decay_start_tokens",
                                            "schedule.decay_end_tokens"};
    std::string steps_key = s_.warmup_fraction ? "schedule.warmup_fraction" : "", tokens_key;
    for (int i = 0; i < 3; ++i) {
      if (!good(in_steps[i]) || !good(in_tokens[i])) return false;
      if (given(in_steps[i])) steps_key = in_steps[i];
      if (given(in_tokens[i])) tokens_key = in_tokens[i];
    }
    if (!steps_key.empty() && !tokens_key.empty()) {
      refuse(tokens_key, fmt::format("found `{}` beside `{}`", tokens_key, steps_key),
             "expected a schedule that counts either steps or tokens");
      return false;
    }
    keys_ = tokens_key.empty() ? in_steps : in_tokens;
    return true;
  }

  void fraction() {
    if (!s_.warmup_fraction) return;
    const std::string key = "schedule.warmup_fraction";
    if (given("schedule.warmup_steps"))
      refuse(key, fmt::format("found `{}` beside `schedule.warmup_steps`", key), "expected one of them");
    if (!knows_horizon())
      refuse(key, fmt::format("found `{}` without `run.epochs`", key), "expected the length that it is a share of",
             "Write `schedule.warmup_steps`, or `schedule.horizon_steps` beside it");
    if (s_.name != "constant" && *s_.warmup_fraction >= 1)
      refuse(key, fmt::format("found {} as `{}` with the schedule `{}`", *s_.warmup_fraction, key, s_.name),
             "expected a share below 1, which leaves steps to decay in");
  }

  void horizon() {
    if (!s_.horizon_steps) return;
    const std::string key = "schedule.horizon_steps";
    if (!s_.has_horizon())
      refuse(key, fmt::format("found `{}`, by which nothing of this schedule is counted", key),
             "expected `schedule.warmup_fraction`, or a decay without an end of its own", "Take it out");
    else if (s_.name != "constant" && s_.decay_end_step == 0 &&
             s_.warmup_steps >= static_cast<double>(*s_.horizon_steps))
      refuse(key, fmt::format("found {} as `{}`", *s_.horizon_steps, key),
             fmt::format("expected more than the {:.0f} steps of the warm-up", s_.warmup_steps));
  }

  void no_decay() {
    for (int i = 1; i < 3; ++i) {
      if (!given(keys_[i])) continue;
      refuse(keys_[i], fmt::format("found `{}` with the schedule `constant`", keys_[i]), "expected none",
             fmt::format("Take it out, or write `{}=null` as an override", keys_[i]));
    }
  }

  void decay() {
    const bool stays = s_.name == "warmup-stable-decay";
    // Without its own end a decay in steps ends with the epochs.
    const bool ends_with_run = !stays && !s_.in_tokens && knows_horizon() && !given(keys_[2]);
    if (ends_with_run) return;
    bool complete = true;
    for (int i = stays ? 1 : 2; i < 3; ++i) {
      if (given(keys_[i])) continue;
      complete = false;
      refuse(keys_[i], fmt::format("found no `{}` with the schedule `{}`", keys_[i], s_.name),
             "expected where the decay " + std::string(i == 1 ? "begins" : "ends"),
             stays || s_.in_tokens ? "" : "With `run.epochs` it ends with these");
    }
    if (!complete) return;
    if (s_.decay_start_step < s_.warmup_steps) {
      refuse(keys_[1], fmt::format("found a decay from {:.0f}", s_.decay_start_step),
             fmt::format("expected it to begin after the warm-up, which ends at {:.0f}", s_.warmup_steps));
    }
    if (s_.decay_end_step <= s_.decay_start_step) {
      refuse(keys_[2], fmt::format("found a decay from {:.0f} to {:.0f}", s_.decay_start_step, s_.decay_end_step),
             "expected its end after its start");
    }
  }

  const Reading& reading_;
  const ScheduleSection& s_;
  Issues& issues_;
  const std::string* keys_ = nullptr;  ///< of the unit that the schedule counts in
};

}  // namespace

void schedule_issues(const Reading& reading, Issues& issues) {
  ScheduleChecks(reading, issues).run();
}

}  // namespace fourmi::recipe
