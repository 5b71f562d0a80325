// The disk fails, fills or lies at every point of a save, on every rank: the older checkpoint stays, all ranks know,
// and the next save works.
#include <set>

#include "framework/checkpoint/folder.h"
#include "framework/checkpoint/prove.h"
#include "tests/checkpoint/faulty_disk.h"
#include "tests/checkpoint/sample.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;

constexpr int old_variant = 1, new_variant = 2;

/// Saves step `step` (new_variant) with two ranks, of which `rank` has the disk; all ranks must say the same.
SaveOutcome save_with(Disk& disk, int rank, const fs::path& checkpoints, std::int64_t step) {
  std::vector<SaveOutcome> outcomes(2);
  on_ranks(2, [&](Group& group) {
    const Boxes boxes(group.rank(), 2, true, new_variant);
    SaveOptions options;
    options.keep_last = 1;
    if (group.rank() == rank) options.disk = &disk;
    outcomes[static_cast<std::size_t>(group.rank())] =
        save_checkpoint(group, checkpoints, boxes.get(), sample_state(step), options);
  });
  EXPECT_EQ(outcomes[0].committed(), outcomes[1].committed());
  EXPECT_EQ(outcomes[0].root, outcomes[1].root);
  EXPECT_EQ(outcomes[0].warnings, outcomes[1].warnings);
  if (!outcomes[0].committed()) {
    EXPECT_STREQ(outcomes[0].error->what(), outcomes[1].error->what());
    EXPECT_EQ(outcomes[0].error->status(), ExitStatus::environment) << outcomes[0].error->what();
    EXPECT_NE(std::string(outcomes[0].error->what()).find("rank " + std::to_string(rank)), std::string::npos);
  }
  return outcomes[0];
}

int variant_of(const Manifest& m, const std::string& new_root) {
  return m.root == new_root ? new_variant : old_variant;
}

/// What a new process finds: something whole, at least as new as what was committed.
void expect_recovers(const fs::path& checkpoints, std::int64_t at_least, const std::string& new_root) {
  const auto group = make_self_group("next launch");
  const CheckpointChoice choice = choose_newest(*group, checkpoints, true);
  ASSERT_TRUE(choice.checkpoint);
  EXPECT_TRUE(choice.messages.empty()) << choice.messages[0];
  EXPECT_GE(choice.checkpoint->manifest.state.step, at_least);
  expect_loads(2, choice.checkpoint->folder, variant_of(choice.checkpoint->manifest, new_root));
}

/// Every operation of a save, one failure each. `step` is saved over an older checkpoint of step 10 (replaced if
/// equal).
void fail_everywhere(std::int64_t step, int rank, int error, bool for_ever) {
  std::string new_root;
  {
    const TemporaryFolder probe;
    new_root = save_sample(2, probe.path(), step, {}, new_variant)[0].root;
  }
  int failed = 0, committed = 0;
  for (std::int64_t n = 1;; ++n) {
    const TemporaryFolder run;
    save_sample(1, run.path(), 10, {}, old_variant);
    FaultyDisk disk(n, error, for_ever);
    const SaveOutcome o = save_with(disk, rank, run.path(), step);
    SCOPED_TRACE(fmt::format("operation {} on rank {}, error {}, for ever {}", n, rank, error, for_ever));
    if (!disk.fired()) {
      EXPECT_TRUE(o.committed() && o.warnings.empty());
      EXPECT_GE(failed, 8);
      EXPECT_EQ(committed > 0, rank == 0) << "only rank 0 does anything after the commit";
      return;
    }
    o.committed() ? ++committed : ++failed;
    if (o.committed()) {
      EXPECT_EQ(o.root, new_root);
    }
    expect_recovers(run.path(), o.committed() ? step : 10, new_root);
    // The same process goes on, the disk works again.
    ASSERT_TRUE(save_sample(2, run.path(), 30)[0].committed());
    expect_loads(1, run.path() / step_name(30));
    for (const auto& e : fs::directory_iterator(run.path()))
      EXPECT_TRUE(e.path().filename() == "latest" || parse_step_name(e.path().filename().string())) << e.path();
  }
}

TEST(Fault, EveryOperationOnceOnRank0) {
  fail_everywhere(20, 0, EIO, false);
}
TEST(Fault, EveryOperationOnceOnRank1) {
  fail_everywhere(20, 1, ENOSPC, false);
}
TEST(Fault, KilledAtEveryOperationOfRank0) {
  fail_everywhere(20, 0, EIO, true);
}
TEST(Fault, KilledAtEveryOperationOfRank1) {
  fail_everywhere(20, 1, EIO, true);
}
TEST(Fault, ReplacingTheSameStepFailsOnce) {
  fail_everywhere(10, 0, EDQUOT, false);
}
TEST(Fault, KilledWhileReplacingTheSameStep) {
  fail_everywhere(10, 0, EIO, true);
}

TEST(Fault, FullDiskOfEverySize) {
  const TemporaryFolder run;
  save_sample(2, run.path(), 10);
  int failed = 0;
  for (std::int64_t bytes = 0;; bytes += 200) {
    SmallDisk disk(bytes);
    const SaveOutcome o = save_with(disk, static_cast<int>(bytes / 200 % 2), run.path(), 20);
    if (o.committed()) break;
    ++failed;
    EXPECT_NE(std::string(o.error->what()).find("No space left on device"), std::string::npos) << o.error->what();
    EXPECT_NE(std::string(o.error->what()).find("MB are free"), std::string::npos) << o.error->what();
    ASSERT_EQ(list_steps(run.path()), std::vector<std::int64_t>{10});
    expect_loads(1, run.path() / step_name(10));
  }
  EXPECT_GT(failed, 20);
}

TEST(Fault, ShortWritesAndInterruptsAreNoFailures) {
  const TemporaryFolder run;
  SlowDisk disk;
  for (int rank : {0, 1}) EXPECT_TRUE(save_with(disk, rank, run.path(), 20).committed());
  expect_loads(2, run.path() / step_name(20), new_variant);
  on_ranks(2, [&](Group& group) { EXPECT_NO_THROW(prove_checkpoint(group, run.path() / step_name(20), disk)); });
}

TEST(Fault, ADiskThatLosesABitIsFoundByReadingBack) {
  const TemporaryFolder run;
  save_sample(1, run.path(), 10);
  for (int rank : {0, 1}) {
    for (std::int64_t n = 1;; ++n) {
      LyingDisk disk(n);
      const SaveOutcome o = save_with(disk, rank, run.path(), 20 + n);
      EXPECT_EQ(o.committed(), !disk.lied()) << n;
      if (o.committed()) break;
      EXPECT_NE(std::string(o.error->what()).find("came back"), std::string::npos) << o.error->what();
    }
  }
}

TEST(Fault, ReadErrorsWhileLoading) {
  const TemporaryFolder run;
  save_sample(2, run.path(), 10);
  for (int error : {EIO, EACCES, ESTALE}) {
    for (std::int64_t n = 1;; ++n) {
      FaultyDisk disk(n, error, false);
      int threw = 0;
      on_ranks(2, [&](Group& group) {
        Disk& mine = group.rank() == 1 ? static_cast<Disk&>(disk) : real_disk();
        try {
          const Checkpoint c = prove_checkpoint(group, run.path() / step_name(10), mine);
          const Boxes boxes(group.rank(), 2, false);
          load_boxes(group, c, boxes.get(), mine);
        } catch (const Error& e) {
          const bool damage = error == EIO;
          EXPECT_EQ(e.status(), damage ? ExitStatus::input : ExitStatus::environment) << e.what();
          if (group.rank() == 0) ++threw;
        }
      });
      EXPECT_EQ(threw, disk.fired() ? 1 : 0) << n;
      if (!disk.fired()) break;
    }
  }
}

}  // namespace
}  // namespace fourmi::testing
