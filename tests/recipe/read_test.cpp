#include "framework/recipe/read.h"

#include <gtest/gtest.h>

#include "framework/recipe/compare.h"
#include "framework/recipe/write.h"

namespace fourmi {
namespace {

const std::filesystem::path kRoot = std::filesystem::path(__FILE__).parent_path().parent_path().parent_path();

TEST(Read, TinyHasItsValues) {
  const Recipe r = load_recipe(kRoot / "recipes/tiny.yaml", {"run.steps=7", "data.train.gcide.weight=0.5"}, 4);
  EXPECT_EQ(r.run.name, "tiny");
  EXPECT_EQ(r.run.seed, 1913u);
  EXPECT_EQ(r.run.steps, 7);
  EXPECT_EQ(r.run.directory, "runs/tiny");
  EXPECT_EQ(r.model.n_routed_experts, 8);
  EXPECT_EQ(r.model.num_key_value_heads, 4);
  EXPECT_EQ(r.data.train.at(0).weight, 0.5);
  EXPECT_EQ(r.data.holdout, 0.02);
  EXPECT_EQ(r.schedule.decay_start_step, 288);
  EXPECT_EQ(r.loss.router_bias_rate.at(1e9), 1e-3);
  EXPECT_TRUE(r.evaluation.at_end);
}

TEST(Read, WhatIsWrittenReadsBackToTheSame) {
  const Recipe r = load_recipe(kRoot / "recipes/tiny.yaml");
  const Recipe again = parse_recipe(to_yaml(r));
  EXPECT_TRUE(again == r) << to_yaml(r);
  EXPECT_TRUE(compare(r, again).empty());
}

}  // namespace
}  // namespace fourmi
