#include "framework/train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fourmi {
namespace {

TEST(Schedule, WarmupStableDecay) {
  OptimizerSection o;
  o.learning_rate = 2.0;
  ScheduleSection s;
  s.name = "warmup-stable-decay";
  s.warmup_steps = 10, s.decay_start_step = 20, s.decay_end_step = 40, s.final_ratio = 0.1;
  EXPECT_DOUBLE_EQ(learning_rate(o, s, 1, 0), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate(o, s, 10, 0), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(o, s, 20, 0), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(o, s, 30, 0), 1.1);
  EXPECT_DOUBLE_EQ(learning_rate(o, s, 40, 0), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate(o, s, 4000, 0), 0.2);
}

TEST(Schedule, CosineLinearConstantAndTokens) {
  OptimizerSection o;
  o.learning_rate = 1.0;
  ScheduleSection s;
  s.name = "cosine";
  s.warmup_steps = 0, s.decay_end_step = 100, s.final_ratio = 0.0;
  for (int step : {1, 25, 50, 99})
    EXPECT_NEAR(learning_rate(o, s, step, 0), 0.5 * (1 + std::cos(M_PI * step / 100.0)), 1e-15);
  EXPECT_NEAR(learning_rate(o, s, 100, 0), 0, 1e-15);
  s.name = "linear";
  EXPECT_DOUBLE_EQ(learning_rate(o, s, 25, 0), 0.75);
  s.name = "constant";
  EXPECT_DOUBLE_EQ(learning_rate(o, s, 25, 0), 1.0);
  s.name = "linear", s.in_tokens = true;
  EXPECT_DOUBLE_EQ(learning_rate(o, s, 1, 40), 0.6);
}

}  // namespace
}  // namespace fourmi
