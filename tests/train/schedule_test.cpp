#include "framework/train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/runtime/error.h"

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

/// Half a cosine from 3e-2 of the horizon to its end, down to a tenth.
ScheduleSection of_horizon(std::int64_t steps) {
  ScheduleSection s;
  s.name = "cosine";
  s.warmup_fraction = 0.03;
  s.final_ratio = 0.1;
  find_horizon(s, steps);
  return s;
}

TEST(Schedule, AShareOfTheHorizonIsRoundedUpToSteps) {
  OptimizerSection o;
  o.learning_rate = 1.0;
  const ScheduleSection s = of_horizon(250);  // 7.5 steps
  EXPECT_EQ(turns_of(s).warmup_end, 8);
  EXPECT_EQ(turns_of(s).decay_end, 250);
  EXPECT_DOUBLE_EQ(learning_rate(o, s, 1, 0), 0.125);
  EXPECT_DOUBLE_EQ(learning_rate(o, s, 8, 0), 1.0);
  for (int step : {9, 100, 129, 249})
    EXPECT_NEAR(learning_rate(o, s, step, 0), 0.1 + 0.45 * (1 + std::cos(M_PI * (step - 8) / 242.0)), 1e-15) << step;
  EXPECT_NEAR(learning_rate(o, s, 250, 0), 0.1, 1e-15);
  EXPECT_NEAR(learning_rate(o, s, 400, 0), 0.1, 1e-15) << "more epochs do not stretch it";
  ScheduleSection exact;
  exact.warmup_fraction = 0.07;
  find_horizon(exact, 100);
  EXPECT_EQ(turns_of(exact).warmup_end, 7) << "not 8, though 0.07 * 100 is more than 7";
}

TEST(Schedule, AHorizonThatIsKnownIsKept) {
  ScheduleSection later = of_horizon(250);
  find_horizon(later, 1000);
  EXPECT_EQ(later.horizon_steps, 250);
  ScheduleSection asked = of_horizon(250);
  asked.horizon_steps.reset();
  keep_horizon(later, asked);
  EXPECT_EQ(asked, later);
  asked.horizon_steps = 500;
  keep_horizon(later, asked);
  EXPECT_EQ(asked.horizon_steps, 500) << "what the recipe says itself holds";
  ScheduleSection own;  // with nothing that is counted by a horizon
  own.name = "cosine", own.decay_end_step = 10;
  keep_horizon(later, own);
  find_horizon(own, 1000);
  EXPECT_FALSE(own.horizon_steps);
}

TEST(Schedule, AWarmUpLongerThanTheHorizonIsRefused) {
  ScheduleSection s;
  s.name = "linear";
  s.warmup_steps = 40;
  try {
    find_horizon(s, 40);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::usage);
    EXPECT_NE(std::string(e.what()).find("epochs have 40"), std::string::npos) << e.what();
  }
  s.horizon_steps.reset();
  EXPECT_NO_THROW(find_horizon(s, 41));
  EXPECT_EQ(to_text(s), "warm-up to step 40, a line to step 41 (the horizon)");
}

}  // namespace
}  // namespace fourmi
