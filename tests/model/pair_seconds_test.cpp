// The time of a pair from times of its phases, with numbers that are worked out by hand.
#include "framework/model/pair_seconds.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace fourmi {
namespace {

PhaseSeconds& of(LayerSeconds& layer, PairPhase phase) {
  return layer[static_cast<std::size_t>(phase)];
}

/// Attention, experts and their gradients take 1 each, backward's attention 3 with its weights.
HalfSeconds layers(std::size_t count, double way) {
  LayerSeconds l{};
  of(l, PairPhase::attention).before = of(l, PairPhase::experts).before = 1;
  of(l, PairPhase::experts_backward).before = of(l, PairPhase::weights).before = 1;
  of(l, PairPhase::attention_backward).before = 3;
  for (PairPhase p : {PairPhase::rows_leave, PairPhase::experts, PairPhase::dy_leaves, PairPhase::dx_leaves})
    of(l, p).travels = way;
  return {.begin = 0, .end = 0, .layers = std::vector<LayerSeconds>(count, l)};
}

TEST(PairSeconds, OneHalfAloneWaitsForItsWays) {
  const HalfSeconds half = layers(2, 1.75);
  EXPECT_DOUBLE_EQ(pair_seconds(&half, nullptr), 2 * (2 + 2 * 1.75));
  EXPECT_DOUBLE_EQ(pair_seconds(nullptr, &half), 2 * (5 + 1.75 + (1.75 - 1))) << "weights under dx";
}

TEST(PairSeconds, APairWaitsForLittle) {
  for (std::size_t n : {1U, 2U, 5U}) {
    const HalfSeconds half = layers(n, 1.75);
    EXPECT_DOUBLE_EQ(pair_seconds(&half, &half), 7.75 * static_cast<double>(n)) << "docs/pairs.md: 0.75 a turn";
  }
  const HalfSeconds at_once = layers(3, 0);
  EXPECT_DOUBLE_EQ(pair_seconds(&at_once, &at_once), 3 * 7);
}

TEST(PairSeconds, TheLongerHalfGoesOnAlone) {
  const HalfSeconds one = layers(1, 1.75), two = layers(2, 1.75);
  EXPECT_DOUBLE_EQ(pair_seconds(&two, &one), 7.75 + 5.5);
  EXPECT_DOUBLE_EQ(pair_seconds(&one, &two), 7.75 + 7.5);
}

TEST(PairSeconds, WhatLiesAroundTheLayersAndInsideAPhaseCounts) {
  HalfSeconds half = layers(1, 0);
  half.begin = 10, half.end = 20;
  of(half.layers[0], PairPhase::attention) = {.before = 1, .travels = 4, .beside = 0.5, .behind = 0.25};
  EXPECT_DOUBLE_EQ(pair_seconds(&half, nullptr), 30 + (1 + 4 + 0.25) + 1);
  // What is computed beside it hides the rows' way.
  of(half.layers[0], PairPhase::rows_leave) = {.before = 0, .travels = 2, .beside = 1.5, .behind = 0};
  EXPECT_DOUBLE_EQ(pair_seconds(&half, nullptr), 30 + (1 + 4 + 0.25) + 2 + 1);
  of(half.layers[0], PairPhase::rows_leave).beside = 3;
  EXPECT_DOUBLE_EQ(pair_seconds(&half, nullptr), 30 + (1 + 4 + 0.25) + 3 + 1);
}

}  // namespace
}  // namespace fourmi
