// When each rank of a schedule does what, given how long things take.
#pragma once

#include <vector>

#include "parallel/schedule/schedule.h"

namespace fourmi {

/// Times of one stage with one micro-batch, in any unit.
struct StageTimes {
  double forward = 1, backward_input = 1, backward_weight = 1;
  double whole = 0;  ///< a backward of both halves at once, where that is not their sum; 0: it is
  double backward() const { return whole > 0 ? whole : backward_input + backward_weight; }
};

struct Times {
  std::vector<StageTimes> stages{{}};  ///< one for each stage, or one for all
  /// Of a pair, as a share of its forward and backward done one after the other: 1 without overlap.
  double pair = 1;
  /// Of a pair, where its length is known: [stage of its forward][stage of its backward], in the same unit. Empty: the
  /// share says it.
  std::vector<std::vector<double>> pairs{};
  /// Of single actions, where they are known one by one: [rank][action], below 0: as its stage's. Empty: none is.
  std::vector<std::vector<double>> actions{};
  double transfer = 0;  ///< of a message between two ranks, beside computation
  const StageTimes& of(int stage) const { return stages[stages.size() == 1 ? 0 : static_cast<std::size_t>(stage)]; }
};

struct Interval {
  double begin = 0, end = 0;
};

/// A rank's time in a step, by what it does alone and what in pairs: the columns in which measured runs are published.
struct Phases {
  double forward = 0;   ///< forwards alone
  double backward = 0;  ///< backwards and their input's halves, alone
  double weight = 0;    ///< weights' halves, alone
  double steady = 0;    ///< pairs: one forward and one backward at a time, all through the middle of the step
  double bubble = 0;    ///< nothing
  double sum() const { return forward + backward + weight + steady + bubble; }
};

struct Simulation {
  std::vector<std::vector<Interval>> spans;  ///< [rank][action]
  double makespan = 0;                       ///< from the first action's begin to the last one's end
  std::vector<double> busy;                  ///< by rank
  std::vector<int>
      peak_activations;  ///< by rank: chunks whose forward was done and whose last use was not (weight half included)
  std::vector<int> peak_inputs;    ///< by rank: chunks between forward and backward_input
  std::vector<int> peak_received;  ///< by rank: messages received before the action that takes them

  double bubble(int rank) const { return makespan - busy[static_cast<std::size_t>(rank)]; }
  double largest_bubble() const;
  /// Idle time between a rank's first and last action.
  double gaps(int rank) const;
};

/// The same with each pair's forward, then its backward, as two actions: what is done where pairs do not overlap.
Schedule with_pairs_in_turn(Schedule schedule);

/// Runs all lists with the sends and receives of with_transfers(): a send leaves when its action has ended, channels
/// keep their order. Throws Error(bug) where the ranks stand still, naming what each of them waits for.
Simulation simulate(const Schedule& schedule, const Times& times = {});

/// By rank; each sums up to the makespan.
std::vector<Phases> phases(const Schedule& schedule, const Simulation& simulation);
Phases mean(const std::vector<Phases>& ranks);

}  // namespace fourmi
