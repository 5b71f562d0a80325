#include "parallel/schedule/stage_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

#include "kernels/runtime/error.h"

namespace fourmi {
namespace {

double dearest(std::span<const double> layers, const std::vector<StageLayers>& stages, double first, double last) {
  double most = 0;
  for (std::size_t s = 0; s < stages.size(); ++s) {
    double sum = (s == 0 ? first : 0) + (s + 1 == stages.size() ? last : 0);
    for (int l = stages[s].begin; l < stages[s].end; ++l) sum += layers[static_cast<std::size_t>(l)];
    most = std::max(most, sum);
  }
  return most;
}

/// The least possible, by trying every cut.
double least(std::span<const double> layers, int num_stages, double first, double last) {
  const int L = static_cast<int>(layers.size());
  double best = 1e300;
  std::vector<StageLayers> stages;
  const std::function<void(int)> cut = [&](int begin) {
    const int left = num_stages - static_cast<int>(stages.size());
    for (int end = left == 1 ? L : begin + 1; end <= L - (left - 1); ++end) {
      stages.push_back({begin, end});
      if (left == 1)
        best = std::min(best, dearest(layers, stages, first, last));
      else
        cut(end);
      stages.pop_back();
    }
  };
  cut(0);
  return best;
}

TEST(StageMap, NoCutIsCheaper) {
  std::mt19937 random(3);
  std::uniform_int_distribution<int> cost(1, 9);
  for (int round = 0; round < 60; ++round) {
    const int L = 3 + round % 8, S = 1 + round % std::min(L, 5);
    std::vector<double> layers;
    for (int l = 0; l < L; ++l) layers.push_back(cost(random));
    const double first = cost(random) / 2, last = cost(random);
    const auto stages = balance_layers(layers, S, first, last);
    ASSERT_EQ(stages.size(), static_cast<std::size_t>(S));
    int next = 0;
    for (const StageLayers& s : stages) {
      EXPECT_EQ(s.begin, next);
      EXPECT_GT(s.end, s.begin);
      next = s.end;
    }
    EXPECT_EQ(next, L);
    EXPECT_EQ(dearest(layers, stages, first, last), least(layers, S, first, last));
  }
}

TEST(StageMap, SparesTheStageOfTheHead) {
  const std::vector<double> layers(16, 1.0);
  EXPECT_EQ(balance_layers(layers, 4, 0, 2), (std::vector<StageLayers>{{0, 4}, {4, 8}, {8, 13}, {13, 16}}));
  EXPECT_EQ(balance_layers(layers, 4, 0, 0), (std::vector<StageLayers>{{0, 4}, {4, 8}, {8, 12}, {12, 16}}));
}

TEST(StageMap, TakesWhatTheRecipeGives) {
  const std::vector<std::int64_t> sizes{3, 4, 1};
  EXPECT_EQ(given_layers(sizes, 3, 8), (std::vector<StageLayers>{{0, 3}, {3, 7}, {7, 8}}));
  EXPECT_THROW(given_layers(sizes, 2, 8), Error);
  EXPECT_THROW(given_layers(sizes, 3, 9), Error);
  EXPECT_THROW(given_layers(std::vector<std::int64_t>{8, 0}, 2, 8), Error);
  EXPECT_THROW(balance_layers(std::vector<double>(3, 1.0), 4, 0, 0), Error);
}

}  // namespace
}  // namespace fourmi
