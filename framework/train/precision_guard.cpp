#include "framework/train/precision_guard.h"

#include <algorithm>

namespace fourmi {

bool PrecisionGuard::due(const Engine& engine, std::int64_t step, const GuardState& state) const {
  if (!engine.guards_precision()) return false;
  return (step - 1) % recipe_.guard.precision_every == 0 || state.history.in_a_row > 0;
}

StepResult PrecisionGuard::step(Engine& engine, const ShadowStep& s, GuardState& state, const StepJudge& judge) {
  bool compared = due(engine, s.step, state), undecided = false;
  if (compared) check(engine, s, state);
  const auto judge_finite = [&](const StepResult& r) {
    undecided = !compared && engine.guards_precision() && !r.non_finite.empty();
    return !undecided && judge(r);
  };
  const auto make = [&] {
    return engine.step(s.loader, s.plan, s.step, s.tokens_before, s.observer, std::ref(judge_finite));
  };
  StepResult result = make();
  if (undecided) {
    compared = true;
    if (check(engine, s, state))
      result = make();
    else
      judge(result);
  }
  if (compared) result.precision = figures_;
  if (engine.guards_precision()) result.num_promoted = std::ssize(state.promoted);
  return result;
}

double PrecisionGuard::excess(const PrecisionGap& gap) const {
  return std::max(gap.loss / recipe_.guard.precision_loss_gap, gap.gradient / recipe_.guard.precision_gradient_gap);
}

/// Each layer that is in eight bits, alone: those that are past a bound, else the worst.
std::vector<std::int64_t> PrecisionGuard::find_to_blame(Engine& engine, const ShadowStep& step) const {
  std::vector<std::int64_t> layers;
  std::int64_t worst = -1;
  double most = -1;
  for (std::int64_t l = 0; l < std::ssize(engine.promoted()); ++l) {
    if (is_promoted(engine.promoted(), l)) continue;
    const double here = excess(engine.gap_of_layer(step, l));
    if (here > 1) layers.push_back(l);
    if (here > most) worst = l, most = here;
  }
  if (layers.empty() && worst >= 0) layers.push_back(worst);
  return layers;
}

std::vector<std::int64_t> PrecisionGuard::find_in_operands(const Engine& engine, std::string& why) {
  std::vector<std::int64_t> layers;
  const OperandStatistics& statistics = engine.operand_statistics();
  for (std::size_t map = 0; map < statistics.num_maps(); ++map)
    for (std::size_t r = 0; r < OperandStatistics::roles.size(); ++r) {
      const double error = statistics.figures(map, static_cast<OperandStatistics::Role>(r)).error;
      const MapNames::Map& m = engine.maps().all()[map];
      figures_.operand_error = std::max(figures_.operand_error, error);
      if (error <= recipe_.guard.precision_operand_error) continue;
      if (layers.empty())
        why = fmt::format("the {} of {} is read {:.3g} of its norm away from what it is, expected at most {}",
                          OperandStatistics::roles[r], m.name, error, recipe_.guard.precision_operand_error);
      if (layers.empty() || layers.back() != m.layer) layers.push_back(m.layer);
    }
  return layers;
}

std::vector<std::int64_t> PrecisionGuard::find(Engine& engine, const ShadowStep& step, const PrecisionGap& gap,
                                               std::string& why) {
  figures_ = {.step = step.step, .loss_gap = gap.loss, .gradient_gap = gap.gradient};
  const std::vector<std::int64_t> layers = find_in_operands(engine, why);
  if (told_) told_(figures_, engine);
  if (!gap.reference_finite) {
    narrator_.note(fmt::format("step {}: nothing is said of eight bits, for bf16 gives no finite numbers", step.step));
    return {};
  }
  if (!layers.empty() || !(excess(gap) > 1)) return layers;
  why =
      fmt::format("in eight bits the loss is {:.3g} of bf16's away and the gradient {:.3g}, expected at most {} and {}",
                  gap.loss, gap.gradient, recipe_.guard.precision_loss_gap, recipe_.guard.precision_gradient_gap);
  if (recipe_.guard.precision_action == PrecisionAction::warn) return {-1};
  return find_to_blame(engine, step);
}

void PrecisionGuard::restore(Engine& engine, const GuardState& state) {
  std::vector<std::int64_t> layers;
  for (const Promotion& p : state.promoted) layers.push_back(p.layer);
  engine.promote(layers);
}

bool PrecisionGuard::check(Engine& engine, const ShadowStep& step, GuardState& state) {
  std::string why;
  std::vector<std::int64_t> layers = find(engine, step, engine.compare_precision(step), why);
  const PrecisionFigures found = figures_;
  bool promoted = false;
  while (!layers.empty()) {
    if (recipe_.guard.precision_action == PrecisionAction::warn) {
      narrator_.warn(fmt::format("step {}: {}", step.step, why));
      break;
    }
    std::string text;
    for (std::int64_t l : layers) {
      state.promoted.push_back({step.step, l});
      text += fmt::format("{}{}", text.empty() ? "" : ", ", l);
    }
    restore(engine, state);
    narrator_.warn(fmt::format("step {}: {}; layer(s) {} work in bf16 from here on", step.step, why, text));
    promoted = true;
    layers = find(engine, step, engine.compare_again(step), why);
  }
  figures_ = found;
  return promoted;
}

}  // namespace fourmi
