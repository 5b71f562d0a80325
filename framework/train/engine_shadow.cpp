// A step's micro-batches in eight bits and in bf16, for the guard: nothing of the state changes, nothing is counted.
#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/train/engine_parts.h"
#include "kernels/ops/reduce.h"
#include "kernels/runtime/on_host.h"

namespace fourmi {

/// Losses of shadow micro-batches, and the summed gradients in the optimizer's shards.
Engine::ShadowLosses Engine::run_shadow(const ShadowStep& s, OperandCheck* check) {
  const StepPlan& plan = with_own_texts(s.loader, s.plan);
  prepare_guidance(s.loader, plan, s.tokens_before);
  const OnHost counts(device_, parts_->tables.counts_LE, OnHost::Use::both);
  auto* const choices = counts.tensor().as<std::int64_t>();
  std::vector<std::int64_t>& kept = parts_->guarded->counts;
  kept.assign(choices, choices + counts.tensor().num_elements());
  begin_gradients();
  parts_->panels.begin({promoted_, check != nullptr});  // what looks at operands compares weights too
  const int count = shadow_micro_batches(*recipe_, num_micro_batches(plan));
  const Sums sums = run_micro_batches(s.loader, plan, s.step, s.tokens_before, s.observer, count, check);
  parts_->optimizer.reduce(*stream_, *groups_);
  std::copy(kept.begin(), kept.end(), choices);
  counts.back();
  double bad[1] = {sums.finite && !parts_->refused ? 0.0 : 1.0};
  groups_->world().all_max(std::span(bad));
  int128 exact[2] = {sums.loss, sums.loss_mtp};
  groups_->world().all_sum(std::span(exact));
  return {from_fixed(exact[0]), from_fixed(exact[1]), bad[0] == 0};
}

/// Of the micro-batches as layers compute now to the reference.
const PrecisionGap& Engine::gap_to_reference(const ShadowStep& s, OperandCheck* check) {
  Guarded& g = *parts_->guarded;
  const ShadowLosses &reference = g.reference, mine = run_shadow(s, check);
  const auto relative = [](double x, double to) { return to == 0 ? std::abs(x) : std::abs(x - to) / std::abs(to); };
  PrecisionGap& gap = g.gap;
  gap.loss = mine.finite ? std::max(relative(mine.loss, reference.loss), relative(mine.loss_mtp, reference.loss_mtp))
                         : std::numeric_limits<double>::infinity();
  gap.gradient = g.samples.gap(*stream_, groups_->world());
  gap.reference_finite = reference.finite && !std::isnan(gap.gradient);
  return gap;
}

const PrecisionGap& Engine::compare_precision(const ShadowStep& s) {
  FOURMI_CHECK(parts_->guarded, "a comparison of precisions in a run without the guard of eight bits");
  Guarded& g = *parts_->guarded;
  if (parts_->store.level() < ZeroLevel::weights) parts_->optimizer.gather_in_full(*stream_, *groups_);
  {
    const Promoting all(*this, [](std::int64_t) { return true; });
    g.reference = run_shadow(s, nullptr);
  }
  g.samples.take_reference(*stream_);
  return compare_again(s);
}

const PrecisionGap& Engine::compare_again(const ShadowStep& s) {
  Guarded& g = *parts_->guarded;
  g.statistics.begin();
  gap_to_reference(s, &g.statistics);
  g.statistics.finish(groups_->world());
  return g.gap;
}

const PrecisionGap& Engine::gap_of_layer(const ShadowStep& s, std::int64_t layer) {
  const Promoting others(*this, [=](std::int64_t l) { return l != layer; });
  return gap_to_reference(s, nullptr);
}

const OperandStatistics& Engine::operand_statistics() const {
  return parts_->guarded->statistics;
}

const MapNames& Engine::maps() const {
  return parts_->guarded->samples.maps();
}

}  // namespace fourmi
