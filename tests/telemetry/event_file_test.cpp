#include "framework/telemetry/event_file.h"

#include <gtest/gtest.h>

#include <cmath>

#include "framework/telemetry/crc32c.h"
#include "tests/run/temp_folder.h"
#include "tests/telemetry/event_records.h"

namespace fourmi {
namespace {

TEST(Crc32c, KnownAnswers) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, appendix B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(masked_crc32c("123456789"), ((0xe3069283u >> 15) | (0xe3069283u << 17)) + 0xa282ead8u);
}

TEST(EventFile, AStrangerReadsWhatWasWritten) {
  const TempFolder folder;
  const auto path = folder.path() / "events";
  {
    EventFile file(path);
    EXPECT_TRUE(file.append(version_event(12.5)));
    EXPECT_TRUE(file.append(start_event(12.75, 7)));
    EXPECT_TRUE(file.append(scalars_event(13, 7, {{"train/loss", 2.5}, {"speed/mfu", 0.1}})));
    EXPECT_TRUE(file.append(scalars_event(14, std::int64_t{1} << 40, {{"train/loss", NAN}})));
  }
  const auto events = testing::read_events(path);
  ASSERT_TRUE(events.has_value());
  ASSERT_EQ(events->size(), 4u);
  EXPECT_EQ((*events)[0].file_version, "brain.Event:2");
  EXPECT_EQ((*events)[0].wall_time, 12.5);
  EXPECT_TRUE((*events)[1].session_start);
  EXPECT_EQ((*events)[1].step, 7);
  EXPECT_EQ((*events)[2].scalars, (std::map<std::string, float>{{"train/loss", 2.5f}, {"speed/mfu", 0.1f}}));
  EXPECT_EQ((*events)[3].step, std::int64_t{1} << 40);
  EXPECT_TRUE(std::isnan((*events)[3].scalars.at("train/loss")));
}

TEST(EventFile, WhatCanNeverBeWrittenIsDroppedBeyondALimit) {
  EventFile file("/nonexistent folder/events");
  const std::string big(1 << 20, 'x');
  for (int i = 0; i < 40; ++i) EXPECT_FALSE(file.append(big));
  EXPECT_GE(file.num_dropped(), 23u);
  EXPECT_LE(file.num_dropped(), 26u);
}

}  // namespace
}  // namespace fourmi
