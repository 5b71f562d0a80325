// Schedules with one stage a rank.
#include <algorithm>

#include "parallel/schedule/generators.h"

namespace fourmi::schedules {

std::vector<StagePlace> straight(int num_ranks) {
  std::vector<StagePlace> route;
  for (int r = 0; r < num_ranks; ++r) route.push_back({r, 0});
  return route;
}

Schedule empty(std::string name, int num_ranks, int num_chunks, int num_micro_batches,
               std::vector<std::vector<StagePlace>> routes) {
  return {std::move(name),   num_ranks,         num_chunks,
          num_micro_batches, std::move(routes), std::vector<std::vector<Action>>(static_cast<std::size_t>(num_ranks))};
}

Schedule gpipe(int num_ranks, int num_micro_batches) {
  Schedule s = empty("gpipe", num_ranks, 1, num_micro_batches, {straight(num_ranks)});
  for (auto& list : s.actions) {
    for (int m = 0; m < num_micro_batches; ++m) list.push_back({Verb::forward, {0, m}, {}});
    for (int m = 0; m < num_micro_batches; ++m) list.push_back({Verb::backward, {0, m}, {}});
  }
  return s;
}

Schedule one_f_one_b(int num_ranks, int num_micro_batches) {
  Schedule s = empty("1f1b", num_ranks, 1, num_micro_batches, {straight(num_ranks)});
  for (int r = 0; r < num_ranks; ++r) {
    auto& list = s.actions[static_cast<std::size_t>(r)];
    const int ahead = std::min(num_ranks - 1 - r, num_micro_batches);
    for (int m = 0; m < ahead; ++m) list.push_back({Verb::forward, {0, m}, {}});
    for (int m = 0; m < num_micro_batches; ++m) {
      if (m + ahead < num_micro_batches) list.push_back({Verb::forward, {0, m + ahead}, {}});
      list.push_back({Verb::backward, {0, m}, {}});
    }
  }
  return s;
}

Schedule zb_h1(int num_ranks, int num_micro_batches) {
  Schedule s = empty("zb-h1", num_ranks, 1, num_micro_batches, {straight(num_ranks)});
  for (int r = 0; r < num_ranks; ++r) {
    auto& list = s.actions[static_cast<std::size_t>(r)];
    const int ahead = std::min(num_ranks - 1 - r, num_micro_batches);
    int weights = 0;
    for (int m = 0; m < ahead; ++m) list.push_back({Verb::forward, {0, m}, {}});
    for (int m = 0; m < num_micro_batches; ++m) {
      if (m + ahead < num_micro_batches) list.push_back({Verb::forward, {0, m + ahead}, {}});
      list.push_back({Verb::backward_input, {0, m}, {}});
      if (m >= r) list.push_back({Verb::backward_weight, {0, weights++}, {}});
    }
    while (weights < num_micro_batches) list.push_back({Verb::backward_weight, {0, weights++}, {}});
  }
  return s;
}

}  // namespace fourmi::schedules
