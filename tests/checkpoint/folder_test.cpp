#include "framework/checkpoint/folder.h"

#include "framework/checkpoint/prove.h"
#include "tests/checkpoint/sample.h"

namespace fourmi::testing {
namespace {

using Steps = std::vector<std::int64_t>;

TEST(Folder, Names) {
  EXPECT_EQ(step_name(100), "step-00000100");
  EXPECT_EQ(step_name(1234567890), "step-1234567890");
  for (std::int64_t s : {0L, 7L, 99999999L, 100000000L, 9223372036854775807L})
    EXPECT_EQ(parse_step_name(step_name(s)), s);
  for (const char* bad : {"", "step-", "step-100", "step-00000100.damaged", "step-00000100.tmp-0", "step-0000010x",
                          "step--0000100", "step- 0000100", "latest", "step-000000100", "step-9223372036854775808"})
    EXPECT_FALSE(parse_step_name(bad)) << bad;
}

TEST(Folder, Retention) {
  const Steps all{10, 20, 30, 40, 50};
  EXPECT_EQ(steps_to_delete(all, 50, 3, 0), (Steps{20, 10}));
  EXPECT_EQ(steps_to_delete(all, 50, 1, 0), (Steps{40, 30, 20, 10}));
  EXPECT_EQ(steps_to_delete(all, 50, 0, 0), (Steps{40, 30, 20, 10}));
  EXPECT_EQ(steps_to_delete(all, 50, 1, 20), (Steps{30, 10}));
  EXPECT_EQ(steps_to_delete(all, 50, 9, 0), Steps{});
  EXPECT_EQ(steps_to_delete(all, 30, 1, 0), (Steps{20, 10})) << "newer ones are another branch's";
  EXPECT_EQ(steps_to_delete(Steps{}, 30, 1, 0), Steps{});
}

TEST(Folder, SavesKeepWhatTheOptionsSay) {
  const TemporaryFolder run;
  SaveOptions options;
  options.keep_last = 2;
  options.keep_every_steps = 4;
  for (std::int64_t step = 1; step <= 9; ++step)
    for (const SaveOutcome& o : save_sample(2, run.path(), step, options)) EXPECT_TRUE(o.committed());
  EXPECT_EQ(list_steps(run.path()), (Steps{9, 8, 4}));
  EXPECT_EQ(std::filesystem::read_symlink(run.path() / "latest"), "step-00000009");
  expect_loads(3, run.path() / "latest");
}

TEST(Folder, LeftoversGoAndWhatIsNotOursStays) {
  const TemporaryFolder run;
  save_sample(1, run.path(), 10);
  for (const char* name : {"step-00000020.tmp-1", "step-00000005.deleted-1", "step-00000010.old-1", "notes", "x.tmp-1",
                           "step-00000007.damaged"}) {
    std::filesystem::create_directory(run.path() / name);
    write_file(run.path() / name / "a", "a");
  }
  std::filesystem::rename(run.path() / "step-00000010", run.path() / "step-00000011.old-2");
  std::filesystem::create_symlink("step-00000010", run.path() / "latest.0123");
  clean_leftovers(real_disk(), run.path());
  std::vector<std::string> names;
  for (const auto& e : std::filesystem::directory_iterator(run.path())) names.push_back(e.path().filename().string());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"latest", "notes", "step-00000007.damaged", "step-00000010",
                                             "step-00000011", "x.tmp-1"}));
  expect_loads(1, run.path() / "step-00000011");
}

TEST(Folder, ALeftoverThatCannotBeRemovedIsSaidAndHindersNoSave) {
  const TemporaryFolder run;
  std::filesystem::create_directories(run.path() / "step-00000020.tmp-1/a/b");
  for (const SaveOutcome& o : save_sample(2, run.path(), 10)) {
    EXPECT_TRUE(o.committed());
    ASSERT_EQ(o.warnings.size(), 1u);
    EXPECT_NE(o.warnings[0].find("step-00000020.tmp-1"), std::string::npos) << o.warnings[0];
  }
  on_ranks(2, [&](Group& group) {
    const CheckpointChoice c = choose_newest(group, run.path(), true);
    ASSERT_TRUE(c.checkpoint);
    EXPECT_EQ(c.messages.size(), 1u);
  });
}

TEST(Folder, ACheckpointOfTheSameStepIsReplaced) {
  const TemporaryFolder run;
  save_sample(4, run.path(), 10, {}, 1);
  for (const SaveOutcome& o : save_sample(2, run.path(), 10)) EXPECT_TRUE(o.committed());
  expect_loads(2, run.path() / "step-00000010");
  EXPECT_TRUE(
      extra_entries(run.path() / "step-00000010", read_manifest(real_disk(), run.path() / "step-00000010")).empty());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(run.path()), {}), 2);
}

}  // namespace
}  // namespace fourmi::testing
