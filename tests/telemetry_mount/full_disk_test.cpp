// An event file on a disk that is really full for a while.
#include <gtest/gtest.h>

#include "framework/telemetry/event_file.h"
#include "tests/run/small_disk.h"
#include "tests/run/temp_folder.h"
#include "tests/telemetry/event_records.h"

namespace fourmi {
namespace {

TEST(FullDisk, LosesNoEventsWhileItIsFull) {
  const TempFolder folder;
  const auto done = testing::on_small_disk(folder.path(), "64k", [&] {
    EventFile file(folder.path() / "events");
    testing::fill_disk_to(folder.path(), 4096);
    bool full = false;
    for (int step = 1; step <= 100; ++step)
      full = !file.append(scalars_event(1, step, {{std::string(100, 't'), step}})) || full;
    EXPECT_TRUE(full) << "the disk was never full";
    const auto during = testing::read_events(folder.path() / "events");
    ASSERT_TRUE(during.has_value()) << "a reader sees whole records alone";
    EXPECT_LT(during->size(), 100u);
    std::filesystem::remove(folder.path() / "filler");
    EXPECT_TRUE(file.append(scalars_event(1, 101, {{"t", 101}})));
    const auto after = testing::read_events(folder.path() / "events");
    ASSERT_TRUE(after.has_value());
    ASSERT_EQ(after->size(), 101u);
    for (std::size_t i = 0; i < after->size(); ++i) EXPECT_EQ((*after)[i].step, static_cast<std::int64_t>(i) + 1);
  });
  if (done == testing::SmallDisk::not_permitted) GTEST_SKIP() << testing::why_not_permitted;
  EXPECT_EQ(done, testing::SmallDisk::ok);
}

}  // namespace
}  // namespace fourmi
