#include "framework/train/simulated_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "framework/telemetry/trace.h"
#include "parallel/schedule/verb_names.h"

namespace fourmi {

namespace {

struct Sum {
  double seconds = 0, count = 0;
  double mean() const { return count > 0 ? seconds / count : 0; }
};

std::array<Sum, num_verbs> sums_of(const StagePlace& place, std::span<const RankActions> ranks) {
  std::array<Sum, num_verbs> sums{};
  for (const RankActions& rank : ranks)
    for (const Pipeline::Done& d : rank.done)
      if (rank.place == place.rank && d.pass.chunk == place.chunk) {
        Sum& s = sums[static_cast<std::size_t>(d.verb)];
        s.seconds += static_cast<double>(d.end - d.begin) * 1e-9, ++s.count;
      }
  return sums;
}

Times mean_times(const StageMap& map, std::span<const RankActions> ranks) {
  Times times{.stages = {}};
  double pairs = 0, apart = 0;
  std::vector<double> pair_of;  // by its forward's stage; 0: none was
  for (const StagePlace& place : map.places) {
    const auto sums = sums_of(place, ranks);
    const auto of = [&](Verb v) { return sums[static_cast<std::size_t>(v)]; };
    // A whole backward tells of its halves together alone: of the weights' what it takes by itself, or nothing.
    const double weight = of(Verb::backward_weight).mean(), whole = of(Verb::backward).mean();
    const double input =
        of(Verb::backward_input).count > 0 ? of(Verb::backward_input).mean() : std::max(0.0, whole - weight);
    times.stages.push_back({of(Verb::forward).mean(), input, weight, whole});
    const Sum pair = of(Verb::pair);
    pair_of.push_back(pair.mean());
    pairs += pair.seconds, apart += pair.count * (times.stages.back().forward + times.stages.back().backward());
  }
  if (apart == 0) return times;
  times.pair = pairs / apart;
  for (std::size_t f = 0; f < pair_of.size(); ++f) {
    times.pairs.emplace_back();
    for (const StageTimes& b : times.stages)
      times.pairs.back().push_back(pair_of[f] > 0 ? pair_of[f] : times.pair * (times.stages[f].forward + b.backward()));
  }
  return times;
}

/// Of each action of a replica, what it took; empty where that is not the schedule's list.
std::vector<std::vector<double>> single_times(const Schedule& schedule, std::span<const RankActions> ranks,
                                              int replica) {
  std::vector<std::vector<double>> times(schedule.actions.size());
  for (const RankActions& rank : ranks) {
    if (rank.replica != replica) continue;
    std::vector<double>& mine = times[static_cast<std::size_t>(rank.place)];
    mine.clear();
    for (const Pipeline::Done& d : rank.done) mine.push_back(static_cast<double>(d.end - d.begin) * 1e-9);
  }
  for (std::size_t r = 0; r < times.size(); ++r)
    if (times[r].size() != schedule.actions[r].size()) return {};
  return times;
}

}  // namespace

std::vector<Pipeline::Done> on_device_clock(std::span<const Pipeline::Done> done, const Timeline& timeline) {
  std::vector<Pipeline::Done> result(done.begin(), done.end());
  std::size_t at = 0;
  bool same = true;
  timeline.visit([&](const SpanRecord& span) {
    if (span.depth != 1 || span.end == 0) return;
    for (std::size_t v = 0; v < num_verbs; ++v)
      if (span.name == name_of(static_cast<Verb>(v))) {
        same = same && at < result.size() && result[at].verb == static_cast<Verb>(v);
        if (same) result[at].begin = span.begin, result[at].end = span.end;
        ++at;
      }
  });
  if (!same || at != result.size()) return {done.begin(), done.end()};
  return result;
}

SimulatedStep simulate_step(const Recipe& recipe, const StageMap& map, std::span<const RankActions> ranks) {
  SimulatedStep step;
  int micro_batches = 0;
  std::map<int, std::pair<std::int64_t, std::int64_t>> replicas;  // first begin and last end
  for (const RankActions& rank : ranks)
    for (const Pipeline::Done& d : rank.done) {
      micro_batches = std::max(micro_batches, d.pass.micro_batch + 1);
      auto& [begin, end] = replicas.try_emplace(rank.replica, d.begin, d.end).first->second;
      begin = std::min(begin, d.begin), end = std::max(end, d.end);
    }
  FOURMI_CHECK(!replicas.empty(), "a step without an action");
  std::int64_t longest = -1;
  int of = 0;
  for (const auto& [replica, span] : replicas)
    if (span.second - span.first > longest) longest = span.second - span.first, step.begin = span.first, of = replica;
  step.schedule = schedule_of(recipe, micro_batches);
  const bool pairs = std::any_of(ranks.begin(), ranks.end(), [](const RankActions& rank) {
    return std::any_of(rank.done.begin(), rank.done.end(), [](const auto& d) { return d.verb == Verb::pair; });
  });
  if (!pairs) step.schedule = with_pairs_in_turn(std::move(step.schedule));
  Times times = mean_times(map, ranks);
  step.simulation = simulate(step.schedule, times);
  times.actions = single_times(step.schedule, ranks, of);
  step.uneven = simulate(step.schedule, times).makespan;
  step.measured = static_cast<double>(longest) * 1e-9;
  return step;
}

std::string trace_events(const SimulatedStep& step, int pid) {
  std::string events = process_event(pid, fmt::format("simulated: {} with this step's mean times", step.schedule.name));
  for (std::size_t r = 0; r < step.simulation.spans.size(); ++r) {
    const int lane = static_cast<int>(r);
    events += ",\n" + lane_event(pid, lane, fmt::format("stage rank {}", r));
    for (std::size_t i = 0; i < step.simulation.spans[r].size(); ++i) {
      const Interval& span = step.simulation.spans[r][i];
      const Action& action = step.schedule.actions[r][i];
      const auto at = [&](double seconds) { return step.begin + std::llround(seconds * 1e9); };
      events +=
          ",\n" + span_event(pid, lane, name_of(action.verb), "simulated", at(span.begin), at(span.end),
                             fmt::format(R"(,"args":{{"action":"{}"}})", to_string(action, step.schedule.num_chunks)));
    }
  }
  return events;
}

}  // namespace fourmi
