#include "framework/run/console.h"

#include <gtest/gtest.h>

#include <cmath>

#include "framework/run/machine.h"
#include "tests/run/injected_io.h"
#include "tests/run/temp_folder.h"

namespace fourmi {
namespace {

TEST(Console, TheLineOfTheHandbook) {
  ConsoleStep step{.step = 40,
                   .last_step = 160,
                   .loss = 2.31,
                   .byte_tokens = true,
                   .grad_norm = 1.2,
                   .tokens_per_second = 8100,
                   .of_machine = 0.25,
                   .load = 1.4,
                   .seconds_left = 72,
                   .spent = ""};
  EXPECT_EQ(console_line(step),
            "step 40/160  loss 2.31 (3.33 bits/byte)  grad 1.2  8.1K tok/s  25% of this machine  load 1.4x  eta 1:12");
  EXPECT_EQ(bar_text(step), "loss 2.31  8.1K tok/s  eta 1:12");
  step.dead_experts = 3;
  step.spent = "1.52 of 10 EUR";
  EXPECT_EQ(console_line(step),
            "step 40/160  loss 2.31 (3.33 bits/byte)  grad 1.2  8.1K tok/s  25% of this machine  load 1.4x (3 idle)  "
            "eta 1:12  "
            "spent 1.52 of 10 EUR");
  step.dead_experts = 0;
  step.spent.clear();
  step.byte_tokens = false;
  step.load = 0;
  EXPECT_EQ(console_line(step), "step 40/160  loss 2.31  grad 1.2  8.1K tok/s  25% of this machine  eta 1:12");
  step.distill = 0.1234;
  EXPECT_EQ(console_line(step),
            "step 40/160  loss 2.31  distill 0.123  grad 1.2  8.1K tok/s  25% of this machine  eta 1:12");
  step.distill.reset();
  step.loss = step.grad_norm = step.tokens_per_second = step.seconds_left = NAN;
  EXPECT_EQ(console_line(step), "step 40/160  loss nan  grad nan  ? tok/s  25% of this machine  eta ?");
}

TEST(Console, CountsAndTimes) {
  EXPECT_EQ(short_count(0), "0");
  EXPECT_EQ(short_count(7.4), "7");
  EXPECT_EQ(short_count(999.4), "999");
  EXPECT_EQ(short_count(999.6), "1.0K");
  EXPECT_EQ(short_count(8149), "8.1K");
  EXPECT_EQ(short_count(9960), "10K");
  EXPECT_EQ(short_count(12.4e6), "12M");
  EXPECT_EQ(short_count(999.7e12), "1000T");
  EXPECT_EQ(short_time(0.2), "0:00");
  EXPECT_EQ(short_time(59.6), "1:00");
  EXPECT_EQ(short_time(72), "1:12");
  EXPECT_EQ(short_time(3599.7), "1:00:00");
  EXPECT_EQ(short_time(7389), "2:03:09");
  EXPECT_EQ(short_time(5 * 86400 + 3 * 3600 + 4 * 60), "5d 03:04");
  EXPECT_EQ(short_time(-1), "?");
}

TEST(Console, LogHasTimeLevelAndText) {
  const TempFolder run;
  {
    Log log(run.path(), 3);
    log.info("begins");
    log.warn("careful");
  }
  Log(run.path(), 3).error("again");
  const auto lines = lines_of(run.path() / "logs" / "rank-3.log");
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_TRUE(lines[0].starts_with("20") && lines[0].ends_with("Z info begins")) << lines[0];
  EXPECT_TRUE(lines[1].ends_with("Z warn careful"));
  EXPECT_TRUE(lines[2].ends_with("Z error again"));
}

TEST(Console, ALogThatCannotBeWrittenGoesToStandardError) {
  const TempFolder run;
  put_text(run.path() / "logs", "a file where the folder should be");
  testing::internal::CaptureStderr();
  Log log(run.path(), 0);
  log.info("one");
  log.info("two");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("cannot be written"), std::string::npos);
  EXPECT_EQ(text.find("cannot be written"), text.rfind("cannot be written"));
  EXPECT_NE(text.find("info one"), std::string::npos);
  EXPECT_NE(text.find("info two"), std::string::npos);
}

TEST(Machine, PeaksArePlausibleAndTheBudgetIsKept) {
  const auto start = std::chrono::steady_clock::now();
  const CorePeak peak = measure_core(best_isa());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  // One core of any machine with AVX2: 8 lanes, 1 or 2 multiply-adds a cycle, 1 to 6 GHz; AVX-512 twice that, bf16
  // twice again.
  EXPECT_GT(peak.fp32, 8e9);
  EXPECT_LT(peak.fp32, 400e9);
  EXPECT_GE(peak.bf16, 0.9 * peak.fp32);
  EXPECT_LT(peak.bf16, 2.5 * peak.fp32);
  const CorePeak portable = measure_core(Isa::avx2, std::chrono::milliseconds(5));
  EXPECT_EQ(portable.fp32, portable.bf16);
  EXPECT_GT(portable.fp32, 8e9);
}

TEST(Machine, CoresAndIdealTime) {
  EXPECT_GE(usable_cores(), 1);
  EXPECT_LE(usable_cores(), 4096);
  const MachinePeak peak = host_peak({100e9, 200e9}, 4);
  EXPECT_DOUBLE_EQ(peak.ideal_seconds(400e9, 800e9, 400e9), 2.5);
}

}  // namespace
}  // namespace fourmi
