// Saves on a disk that is really full.
#include "framework/checkpoint/folder.h"
#include "tests/checkpoint/sample.h"
#include "tests/run/small_disk.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;

constexpr int ranks = 4;

/// 512 KiB over four ranks.
SaveOutcome save(const fs::path& checkpoints, std::int64_t step, std::vector<SaveOutcome>& all) {
  all.assign(ranks, {});
  on_ranks(ranks, [&](Group& group) {
    std::vector<float> rows(1024 * 32, static_cast<float>(step));
    const Box box{"/model/weight", "", {4096, 32}, 1024 * group.rank(), Tensor(rows.data(), DType::f32, {1024, 32})};
    all[static_cast<std::size_t>(group.rank())] =
        save_checkpoint(group, checkpoints, std::span(&box, 1), sample_state(step));
  });
  return all[0];
}

void loads(const fs::path& checkpoints, std::int64_t step) {
  const auto group = make_self_group("test");
  const CheckpointChoice c = choose_newest(*group, checkpoints, true);
  ASSERT_TRUE(c.checkpoint);
  EXPECT_EQ(c.checkpoint->manifest.state.step, step);
  std::vector<float> rows(4096 * 32);
  const Box box{"/model/weight", "", {4096, 32}, 0, Tensor(rows.data(), DType::f32, {4096, 32})};
  load_boxes(*group, *c.checkpoint, std::span(&box, 1));
  prove_live_state(*group, *c.checkpoint, std::span(&box, 1));
  for (float x : rows) ASSERT_EQ(x, static_cast<float>(step));
}

void try_every_size(const fs::path& disk) {
  const fs::path checkpoints = disk / "checkpoints";
  std::vector<SaveOutcome> all;
  ASSERT_TRUE(save(checkpoints, 10, all).committed());
  int failures = 0;
  bool committed = false;
  for (std::uintmax_t room = 0; !committed && room < (1 << 20); room += 12288) {
    fill_disk_to(disk, room);
    committed = save(checkpoints, 20, all).committed();
    for (const SaveOutcome& o : all) ASSERT_EQ(o.committed(), committed);
    if (!committed) {
      ++failures;
      for (const SaveOutcome& o : all) {
        EXPECT_EQ(o.error->status(), ExitStatus::environment);
        EXPECT_STREQ(o.error->what(), all[0].error->what());
        EXPECT_NE(std::string(o.error->what()).find("No space left on device"), std::string::npos);
      }
    }
    loads(checkpoints, committed ? 20 : 10);
    fs::remove(disk / "filler");
  }
  EXPECT_TRUE(committed);
  EXPECT_GT(failures, 30);
  ASSERT_TRUE(save(checkpoints, 30, all).committed());
  loads(checkpoints, 30);
}

TEST(FullDisk, EverySizeFailsOnAllRanksAndKeepsTheOlderCheckpoint) {
  const TemporaryFolder place;
  const SmallDisk result = on_small_disk(place.path(), "3m", [&] { try_every_size(place.path()); });
  if (result == SmallDisk::not_permitted) GTEST_SKIP() << why_not_permitted;
  EXPECT_EQ(result, SmallDisk::ok);
}

}  // namespace
}  // namespace fourmi::testing
