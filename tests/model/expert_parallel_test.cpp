// What the expert axis may get wrong without a crash, on memory that is filled with NaN.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <thread>

#include "tests/model/small_model.h"
#include "tests/parallel/member_threads.h"

namespace fourmi {
namespace {

using Gradients = std::map<std::string, std::vector<double>>;

Gradients gradients_of(const SmallModel& m) {
  Gradients all;
  for (const Parameter& p : m.table.all()) {
    if (p.set == ParameterSet::router_bias) continue;
    const Tensor g = m.store.gradient(m.store.slot(p.name));
    all[p.name].assign(g.as<double>(), g.as<double>() + g.num_elements());
  }
  return all;
}

constexpr BatchSizes sizes{32, 16};
constexpr LossWeights weights{.mtp = 0.3, .balance = 0.05};

void expect_multiple(const std::vector<double>& got, const std::vector<double>& one, double factor,
                     const std::string& what) {
  ASSERT_EQ(got.size(), one.size()) << what;
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < one.size(); ++i) {
    error += (got[i] - factor * one[i]) * (got[i] - factor * one[i]);
    norm += one[i] * one[i];
  }
  EXPECT_GT(norm, 0) << what;
  EXPECT_LE(std::sqrt(error), 1e-12 * std::sqrt(norm)) << what;  // false for NaN
}

/// What a rank holds of a whole gradient.
std::vector<double> part_of(const std::vector<double>& whole, const Parameter& p) {
  std::vector<double> part;
  const std::int64_t width = p.shape.num_elements() / p.shape[0], mine = p.local.num_elements() / p.local[0];
  for (std::int64_t r = 0; r < p.local[0]; ++r) {
    const auto begin = whole.begin() + (p.first_row + r) * width + p.first_column;
    part.insert(part.end(), begin, begin + mine);
  }
  return part;
}

/// All ranks have the same rows. So a held expert is sent each of them by every rank, and its gradient is the sum of as
/// many equal ones: not one, not their mean. All else, the router's too, is a rank's own.
void expect_sums_over_ranks(int size, Group* LayerGroups::*axis) {
  const ModelSection section = small_section();
  SmallModel alone(section, Compute::fp64, Reproducibility::run, sizes);
  SmallBatch batch(sizes, section.vocab_size);
  alone.model.forward_backward(alone.stream, batch.tensors(), weights, alone.options);
  const Gradients one = gradients_of(alone);
  auto groups = make_thread_groups("experts", size);
  std::mutex mutex;
  std::map<std::string, std::int64_t> held;  // elements, over all ranks
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      LayerGroups of_layers;
      of_layers.*axis = groups[static_cast<std::size_t>(rank)].get();
      SmallModel m(section, Compute::fp64, Reproducibility::run, sizes, 7, Model::Use::training, of_layers);
      SmallBatch rows(sizes, section.vocab_size);
      m.model.forward_backward(m.stream, rows.tensors(), weights, m.options);
      const std::lock_guard lock(mutex);
      for (const auto& [name, got] : gradients_of(m)) {
        const Parameter& p = m.table.find(name);
        held[name] += p.local.num_elements();
        expect_multiple(got, part_of(one.at(name), p), p.routed_expert ? size : 1, name);
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(held.size(), one.size());
  for (const auto& [name, elements] : held)
    EXPECT_EQ(elements, std::ssize(one.at(name)) * (alone.table.find(name).routed_expert ? 1 : size)) << name;
}

TEST(ExpertParallel, GradientsOfExpertsAreSumsOverTheRanksThatSendRows) {
  for (int size : {2, 4}) expect_sums_over_ranks(size, &LayerGroups::expert);
}

TEST(ExpertParallel, AndOfTheirColumnsWhereAllExpertsAreHere) {
  expect_sums_over_ranks(2, &LayerGroups::expert_tensor);
}

bool all_zero(const std::vector<double>& x, std::int64_t begin, std::int64_t end) {
  return std::all_of(x.begin() + begin, x.begin() + end, [](double v) { return v == 0; });
}

/// The bias keeps the tokens of every rank out of the second of two groups: experts 2 and 3. Without a balance loss
/// neither these nor their rows of the router have a gradient, to the bit.
void expect_nothing_for_the_unchosen(const LayerGroups& groups) {
  const ModelSection section = small_section();
  SmallModel m(section, Compute::fp64, Reproducibility::run, sizes, 7, Model::Use::training, groups);
  for (const Parameter* bias : m.table.of(ParameterSet::router_bias))
    m.store.weight(m.store.slot(bias->name)).as<double>()[3] = -1000;
  SmallBatch batch(sizes, section.vocab_size);
  m.model.forward_backward(m.stream, batch.tensors(), {.mtp = 0.3}, m.options);
  const std::int64_t row = section.hidden_size;
  int routers = 0;
  for (const auto& [name, g] : gradients_of(m)) {
    const bool unchosen = name.find(".experts.2.") != name.npos || name.find(".experts.3.") != name.npos;
    EXPECT_EQ(all_zero(g, 0, std::ssize(g)), unchosen) << name;
    if (!name.ends_with(".mlp.gate.weight")) continue;
    ++routers;
    EXPECT_FALSE(all_zero(g, 0, row) || all_zero(g, row, 2 * row)) << name;
    EXPECT_TRUE(all_zero(g, 2 * row, 4 * row)) << name;
  }
  EXPECT_EQ(routers, 2);
}

TEST(ExpertParallel, WhatNobodyChoseGetsNoGradient) {
  expect_nothing_for_the_unchosen({});
  for (Group* LayerGroups::*axis : {&LayerGroups::expert, &LayerGroups::expert_tensor})
    run_members(2, [&](Group& group) {
      LayerGroups groups;
      groups.*axis = &group;
      expect_nothing_for_the_unchosen(groups);
      return 0;
    });
}

}  // namespace
}  // namespace fourmi
