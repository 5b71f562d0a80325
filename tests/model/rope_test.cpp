// What YaRN multiplies the rotary table and the attention scores with, as the released models' code does: position 0
// turns nothing, so a row of the table there is (factor, 0).
#include "framework/model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/model/small_families.h"

namespace fourmi {
namespace {

RopeScaling yarn(double factor, double mscale, double mscale_all_dim) {
  RopeScaling s;
  s.type = "yarn", s.factor = factor, s.mscale = mscale, s.mscale_all_dim = mscale_all_dim;
  s.original_max_position_embeddings = 16;
  return s;
}

double table_scale(const ModelSection& m) {
  const std::int64_t pairs = rotary_dim(m) / 2;
  std::vector<double> table(static_cast<std::size_t>(2 * pairs));
  fill_rotary_table(m, Tensor(table.data(), DType::f64, {1, pairs, 2}));
  for (std::int64_t j = 0; j < pairs; ++j) {
    EXPECT_EQ(table[static_cast<std::size_t>(2 * j)], table[0]);
    EXPECT_EQ(table[static_cast<std::size_t>(2 * j + 1)], 0);
  }
  return table[0];
}

TEST(Rope, DeepSeeksTableHasTheRatioOfBothScales) {
  ModelSection m = small_section();
  EXPECT_EQ(table_scale(m), 1);
  m.rope_scaling = yarn(40, 0.707, 1);
  const double log_40 = std::log(40.0);
  EXPECT_NEAR(table_scale(m), (0.0707 * log_40 + 1) / (0.1 * log_40 + 1), 1e-14);
  m.rope_scaling = yarn(40, 1, 0);  // a scale of 0 is 1
  EXPECT_NEAR(table_scale(m), 0.1 * log_40 + 1, 1e-14);
  m.rope_scaling = yarn(40, 0.707, 0.707);
  EXPECT_EQ(table_scale(m), 1);
}

TEST(Rope, TheOtherFamiliesHaveTheOneFromTheFactorOrTheOneGiven) {
  ModelSection m = small_gqa("qwen3");
  m.rope_scaling = yarn(4, 0, 0);
  EXPECT_NEAR(table_scale(m), 0.1 * std::log(4.0) + 1, 1e-14);
  m.rope_scaling = yarn(4, 2, 0.5);
  EXPECT_NEAR(table_scale(m), (0.2 * std::log(4.0) + 1) / (0.05 * std::log(4.0) + 1), 1e-14);
  m.rope_scaling->attention_factor = 1.25;
  EXPECT_EQ(table_scale(m), 1.25);
}

TEST(Rope, DeepSeeksScoresHaveTheSquareOfTheSecondScale) {
  ModelSection m = small_section();
  const double plain = 1 / std::sqrt(static_cast<double>(m.qk_nope_head_dim + m.qk_rope_head_dim));
  EXPECT_NEAR(softmax_scale(m), plain, 1e-15);
  m.rope_scaling = yarn(40, 1, 0);
  EXPECT_NEAR(softmax_scale(m), plain, 1e-15);
  m.rope_scaling = yarn(40, 0.707, 0.8);
  EXPECT_NEAR(softmax_scale(m), plain * std::pow(0.08 * std::log(40.0) + 1, 2), 1e-14);
  m = small_gqa("qwen3");
  m.rope_scaling = yarn(40, 1, 1);
  EXPECT_NEAR(softmax_scale(m), 1 / std::sqrt(6.0), 1e-15);
}

}  // namespace
}  // namespace fourmi
