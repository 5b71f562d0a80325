// What the simulator says of a step, from times of phases alone: they make the time of each pair and of each half that
// goes alone, and these the schedule's step.
#pragma once

#include "framework/train/pair_rule.h"
#include "framework/train/stages.h"
#include "parallel/schedule/simulate.h"
#include "tests/layouts/phase_log.h"

namespace fourmi {

/// What a stage's halves take, by phase.
struct Halves {
  HalfSeconds forward, backward, input;  ///< input: of backward, without its weights' half
  double weight = 0;
};

inline Halves halves_of(const PhaseTable& t, const Stage& stage) {
  Halves h;
  const auto around = [&](const char* name) {
    const auto at = t.around.find(name);
    return at == t.around.end() ? 0 : at->second.value();
  };
  h.forward.begin = h.backward.begin = t.rest.value() / 2;
  if (stage.first) h.forward.begin += around("embedding_forward"), h.backward.end += around("embedding_backward");
  if (stage.last) h.forward.end += around("head_forward_backward"), h.backward.begin += around("head_backward");
  for (std::int64_t l = stage.begin; l < stage.end; ++l) {
    LayerSeconds layer{};
    for (std::size_t p = 0; p < num_pair_phases; ++p) {
      const PhaseTable::Phase& m = t.phases.at({static_cast<std::int32_t>(l), static_cast<PairPhase>(p)});
      layer[p] = {m.before.value(), m.travels.value(), m.beside.value(), m.behind.value()};
    }
    h.forward.layers.push_back(layer), h.backward.layers.push_back(layer);
    // Attention's weights, and with them the rest of the half, go with the last phase.
    const auto alone = t.weights.find(static_cast<std::int32_t>(l));
    PhaseSeconds &weights = layer[static_cast<std::size_t>(PairPhase::weights)],
                 &last = layer[static_cast<std::size_t>(PairPhase::attention_backward)];
    const double half = alone == t.weights.end() ? weights.before : alone->second.value();
    last.before = std::max(0.0, last.before - (half - weights.before));
    weights = {};
    h.input.layers.push_back(layer), h.weight += half;
  }
  h.input.begin = h.backward.begin, h.input.end = h.backward.end;
  return h;
}

inline Times times_of(const StageMap& map, const PhaseTable& table) {
  std::vector<Halves> halves;
  for (int s = 0; s < static_cast<int>(map.layers.size()); ++s) halves.push_back(halves_of(table, map.stage(s)));
  Times times{.stages = {}, .transfer = table.late.value()};
  for (const Halves& h : halves) {
    times.stages.push_back({pair_seconds(&h.forward, nullptr), pair_seconds(nullptr, &h.input), h.weight,
                            pair_seconds(nullptr, &h.backward)});
    times.pairs.emplace_back();
    for (const Halves& behind : halves) times.pairs.back().push_back(pair_seconds(&h.forward, &behind.backward));
  }
  return times;
}

/// The makespan of so many micro-batches, by the mean times of phases.
inline double predict(const Recipe& recipe, int micro_batches, const PhaseTable& table) {
  const Schedule schedule = schedule_of(recipe, micro_batches);
  const Times times = times_of(stage_map(recipe), table);
  return simulate(pair_rule(recipe).how == Pairs::together ? schedule : with_pairs_in_turn(schedule), times).makespan;
}

/// A pair between those stages as its phases were then.
inline double pair_seconds(const PhaseTable& means, const Stage& f, const Stage& b,
                           const std::map<PhaseKey, PhaseSeconds>& then) {
  const auto with = [&](HalfSeconds half, const Stage& stage) {
    for (const auto& [key, seconds] : then)
      if (key.first >= stage.begin && key.first < stage.end)
        half.layers[static_cast<std::size_t>(key.first - stage.begin)][static_cast<std::size_t>(key.second)] = seconds;
    return half;
  };
  const HalfSeconds forward = with(halves_of(means, f).forward, f), backward = with(halves_of(means, b).backward, b);
  return fourmi::pair_seconds(&forward, &backward);
}

/// As predict() of a step, with each pair's own phases: where a phase takes longer once than another time, ranks wait
/// for one another, which means do not tell. `step`: of each rank at a place of the pipeline its pairs, in order.
inline double predict_one_by_one(const Recipe& recipe, int micro_batches, const PhaseTable& means,
                                 const std::map<int, std::vector<PairList>>& step) {
  const StageMap map = stage_map(recipe);
  const Schedule schedule = schedule_of(recipe, micro_batches);
  Times times = times_of(map, means);
  for (int r = 0; r < schedule.num_ranks; ++r) {
    const std::vector<int> held = map.stages_of(r);
    const auto stage = [&](const Pass& p) { return map.stage(held[static_cast<std::size_t>(p.chunk)]); };
    const std::vector<PairList>& ranks = step.at(r);
    std::vector<double>& seconds = times.actions.emplace_back();
    std::size_t nth = 0;
    for (const Action& a : schedule.actions[static_cast<std::size_t>(r)]) {
      seconds.push_back(-1);
      if (a.verb != Verb::pair) continue;
      // Ranks that share experts are at the same pair, and wait for one another in every phase.
      Mean of_ranks;
      for (const PairList& pairs : ranks) of_ranks.add(pair_seconds(means, stage(a.pass), stage(a.behind), pairs[nth]));
      seconds.back() = of_ranks.value();
      ++nth;
    }
  }
  return simulate(schedule, times).makespan;
}

}  // namespace fourmi
