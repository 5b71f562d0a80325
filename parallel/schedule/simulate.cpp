#include "parallel/schedule/simulate.h"

#include <algorithm>
#include <map>

#include "kernels/runtime/error.h"
#include "parallel/schedule/transfers.h"

namespace fourmi {
namespace {

struct Rank {
  std::size_t next = 0;  ///< step
  double time = 0;       ///< when its last action ended
  double inputs = 0;     ///< when the last message came that the next action waits for
  int activations = 0, open_inputs = 0, received = 0;
};

class Simulator {
 public:
  Simulator(const Schedule& s, const Times& times) : s_(s), times_(times), lists_(with_transfers(s)) {
    const auto n = static_cast<std::size_t>(s.num_ranks);
    ranks_.resize(n);
    result_.spans.resize(n);
    result_.busy.resize(n);
    result_.peak_activations.resize(n);
    result_.peak_inputs.resize(n);
    result_.peak_received.resize(n);
  }

  Simulation run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (int r = 0; r < s_.num_ranks; ++r)
        while (advance(r)) moved = true;
    }
    check_all_done();
    double begin = 0;
    bool first = true;
    for (const auto& spans : result_.spans) {
      if (spans.empty()) continue;
      begin = first ? spans.front().begin : std::min(begin, spans.front().begin);
      result_.makespan = std::max(result_.makespan, spans.back().end);
      first = false;
    }
    result_.makespan -= begin;
    return std::move(result_);
  }

 private:
  using Key = std::pair<int, int>;

  bool advance(int r) {
    Rank& rank = ranks_[static_cast<std::size_t>(r)];
    const auto& list = lists_[static_cast<std::size_t>(r)];
    if (rank.next == list.size()) return false;
    const Step& step = list[rank.next];
    switch (step.kind) {
      case Step::Kind::send:
        sent_[{r, step.message.to}].push_back(rank.time + times_.transfer);
        break;
      case Step::Kind::receive: {
        const auto& channel = sent_[{step.message.from, r}];
        std::size_t& at = taken_[{step.message.from, r}];
        if (at == channel.size()) return false;
        rank.inputs = std::max(rank.inputs, channel[at++]);
        auto& peak = result_.peak_received[static_cast<std::size_t>(r)];
        peak = std::max(peak, ++rank.received);
        break;
      }
      case Step::Kind::act:
        act(r, rank, step.action);
        break;
    }
    ++rank.next;
    return true;
  }

  std::size_t stage_of(int r, Pass p) const {
    const auto& route = s_.routes[static_cast<std::size_t>(s_.route_of(p.micro_batch))];
    return static_cast<std::size_t>(std::find(route.begin(), route.end(), StagePlace{r, p.chunk}) - route.begin());
  }
  const StageTimes& times_of(int r, Pass p) const { return times_.of(static_cast<int>(stage_of(r, p))); }

  double duration(int r, const Action& a) const {
    if (!times_.actions.empty()) {
      const auto i = static_cast<std::size_t>(r);
      if (const double known = times_.actions[i][result_.spans[i].size()]; known >= 0) return known;
    }
    const StageTimes& t = times_of(r, a.pass);
    switch (a.verb) {
      case Verb::forward:
        return t.forward;
      case Verb::backward:
        return t.backward();
      case Verb::backward_input:
        return t.backward_input;
      case Verb::backward_weight:
        return t.backward_weight;
      case Verb::pair: {
        if (!times_.pairs.empty()) return times_.pairs[stage_of(r, a.pass)][stage_of(r, a.behind)];
        return times_.pair * (t.forward + times_of(r, a.behind).backward());
      }
    }
    return 0;
  }

  void act(int r, Rank& rank, const Action& a) {
    const auto i = static_cast<std::size_t>(r);
    const double begin = std::max(rank.time, rank.inputs), length = duration(r, a);
    result_.spans[i].push_back({begin, begin + length});
    result_.busy[i] += length;
    rank.time = begin + length;
    for (const Message& m : needs_of(s_, r, a).inputs)
      if (m.from != r) --rank.received;
    if (a.verb == Verb::forward || a.verb == Verb::pair) ++rank.activations, ++rank.open_inputs;
    result_.peak_activations[i] = std::max(result_.peak_activations[i], rank.activations);
    result_.peak_inputs[i] = std::max(result_.peak_inputs[i], rank.open_inputs);
    if (a.verb != Verb::forward && a.verb != Verb::backward_weight) --rank.open_inputs;
    if (a.verb != Verb::forward && a.verb != Verb::backward_input) --rank.activations;
  }

  void check_all_done() const {
    std::string waiting;
    for (int r = 0; r < s_.num_ranks; ++r) {
      const auto& list = lists_[static_cast<std::size_t>(r)];
      const std::size_t next = ranks_[static_cast<std::size_t>(r)].next;
      if (next == list.size()) continue;
      const Message& m = list[next].message;
      waiting += fmt::format("; rank {} waits for the {} of stage {}, micro-batch {}, from rank {}", r,
                             m.gradient ? "gradient" : "output", m.stage, m.micro_batch, m.from);
    }
    FOURMI_CHECK(waiting.empty(), "{} of {} ranks and {} micro-batches stands still{}", s_.name, s_.num_ranks,
                 s_.num_micro_batches, waiting);
  }

  const Schedule& s_;
  const Times& times_;
  std::vector<std::vector<Step>> lists_;
  std::vector<Rank> ranks_;
  std::map<Key, std::vector<double>> sent_;  // arrival times, by channel
  std::map<Key, std::size_t> taken_;
  Simulation result_;
};

}  // namespace

double Simulation::largest_bubble() const {
  double largest = 0;
  for (std::size_t r = 0; r < busy.size(); ++r) largest = std::max(largest, makespan - busy[r]);
  return largest;
}

double Simulation::gaps(int rank) const {
  const auto& of = spans[static_cast<std::size_t>(rank)];
  return of.empty() ? 0 : of.back().end - of.front().begin - busy[static_cast<std::size_t>(rank)];
}

Schedule with_pairs_in_turn(Schedule schedule) {
  for (std::vector<Action>& list : schedule.actions) {
    std::vector<Action> apart;
    for (const Action& a : list) {
      if (a.verb != Verb::pair) {
        apart.push_back(a);
        continue;
      }
      apart.push_back({Verb::forward, a.pass, {}});
      apart.push_back({Verb::backward, a.behind, {}});
    }
    list = std::move(apart);
  }
  return schedule;
}

Simulation simulate(const Schedule& schedule, const Times& times) {
  FOURMI_CHECK(times.stages.size() == 1 || times.stages.size() == static_cast<std::size_t>(schedule.num_stages()),
               "times of {} stages for {}", times.stages.size(), schedule.num_stages());
  const auto stages = static_cast<std::size_t>(schedule.num_stages());
  const auto is_row = [&](const std::vector<double>& row) { return row.size() == stages; };
  FOURMI_CHECK(times.pairs.empty() ||
                   (times.pairs.size() == stages && std::all_of(times.pairs.begin(), times.pairs.end(), is_row)),
               "times of pairs that are not of {} by {} stages", stages, stages);
  bool all_known = times.actions.empty() || times.actions.size() == schedule.actions.size();
  for (std::size_t r = 0; all_known && r < times.actions.size(); ++r)
    all_known = times.actions[r].size() == schedule.actions[r].size();
  FOURMI_CHECK(all_known, "times of other actions than the schedule's");
  return Simulator(schedule, times).run();
}

std::vector<Phases> phases(const Schedule& schedule, const Simulation& simulation) {
  std::vector<Phases> ranks(simulation.spans.size());
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    Phases& p = ranks[r];
    p.bubble = simulation.bubble(static_cast<int>(r));
    for (std::size_t i = 0; i < simulation.spans[r].size(); ++i) {
      const double took = simulation.spans[r][i].end - simulation.spans[r][i].begin;
      switch (schedule.actions[r][i].verb) {
        case Verb::forward:
          p.forward += took;
          break;
        case Verb::backward:
        case Verb::backward_input:
          p.backward += took;
          break;
        case Verb::backward_weight:
          p.weight += took;
          break;
        case Verb::pair:
          p.steady += took;
          break;
      }
    }
  }
  return ranks;
}

Phases mean(const std::vector<Phases>& ranks) {
  Phases all;
  const double n = static_cast<double>(ranks.size());
  for (const Phases& p : ranks) {
    all.forward += p.forward / n;
    all.backward += p.backward / n;
    all.weight += p.weight / n;
    all.steady += p.steady / n;
    all.bubble += p.bubble / n;
  }
  return all;
}

}  // namespace fourmi
