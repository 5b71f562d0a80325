// The disk is full when a checkpoint is due: the older one stays, every rank knows, and training goes on or stops as
// the recipe says.
#include "tests/end_to_end/scene.h"
#include "tests/run/small_disk.h"

namespace fourmi::testing {
namespace {

namespace fs = std::filesystem;

constexpr int ranks = 4;
constexpr const char* only_checkpoint = "step-00000002";

class FullDisk : public Scene {
 protected:
  Words words(const std::string& on_failure) const {
    return {"run.steps=8", "checkpoint.every=2", "checkpoint.keep.last=1", "checkpoint.on_failure=" + on_failure};
  }
  /// A run with a checkpoint of step 2 and no room for another, though for all else.
  void fill_behind_step_2(const std::string& name) const {
    expect_ok(run(train(name, ranks, {"run.steps=2"})));
    fill_disk_to(folder(), 256 << 10);
  }
  void expect_all_ranks_know(const std::string& name, const std::string& what) const {
    for (int rank = 0; rank < ranks; ++rank) {
      const std::string log = text_of(run_directory(name) / ("logs/rank-" + std::to_string(rank) + ".log"));
      EXPECT_NE(log.find(what), std::string::npos) << "rank " << rank << "\n" << log;
    }
  }

  void goes_on() {
    fill_behind_step_2("run");
    Process job(faulty({"wait", 0, "forward", 6}, "run", ranks, words("continue")));
    ASSERT_NE(fault_reached(), 0) << to_string(job.wait(Seconds(1)));
    EXPECT_EQ(checkpoint_names(run_directory("run")), std::vector<std::string>{only_checkpoint});
    expect_all_ranks_know("run", "the checkpoint of step 4 was not saved");
    fs::remove(folder() / "filler");
    go_on();
    const Result result = job.wait();
    expect_ok(result);
    // While the save takes what room there is a log's line may have to wait; that is said, and that it was written.
    int saves = 0;
    for (const std::string& warning : result.lines("fourmi: warning: ")) {
      const bool of_a_log = warning.find(".jsonl: ") != std::string::npos;
      saves += !of_a_log;
      EXPECT_TRUE(warning.find("No space left on device") != std::string::npos ||
                  (of_a_log && warning.find("no line is lost") != std::string::npos))
          << warning;
      EXPECT_TRUE(of_a_log || warning.find("training goes on, the older checkpoint stays") != std::string::npos)
          << warning;
    }
    EXPECT_EQ(saves, 1) << to_string(result);
    expect_each_step_once(run_directory("run"), 8);
    EXPECT_EQ(checkpoint_names(run_directory("run")), std::vector<std::string>{"step-00000008"});
  }

  void stops() {
    fill_behind_step_2("run");
    const Result result = run(train("run", ranks, words("stop")));
    SCOPED_TRACE(to_string(result));
    EXPECT_EQ(result.status, 3);
    ASSERT_EQ(result.error_lines().size(), 1u);
    EXPECT_NE(result.error_lines()[0].find("No space left on device"), std::string::npos);
    EXPECT_EQ(status_of(run_directory("run")).state, "failed");
    EXPECT_EQ(status_of(run_directory("run")).exit_status, 3);
    EXPECT_NE(status_of(run_directory("run")).cause.find("No space left on device"), std::string::npos);
    ASSERT_FALSE(checkpoint_names(run_directory("run")).empty());
    EXPECT_EQ(checkpoint_names(run_directory("run"))[0], only_checkpoint);
    expect_ok(run(fourmi({"checkpoint", "verify", run_directory("run")})));
    fs::remove(folder() / "filler");
    expect_ok(run(train("run", ranks, words("stop"))));
    expect_each_step_once(run_directory("run"), 8);
  }

  void expect_on_small_disk(const std::function<void()>& body) {
    const SmallDisk result = on_small_disk(folder(), "8m", body);
    if (result == SmallDisk::not_permitted) GTEST_SKIP() << why_not_permitted;
    EXPECT_EQ(result, SmallDisk::ok);
  }
};

TEST_F(FullDisk, TrainingGoesOnWhereTheRecipeSaysSo) {
  expect_on_small_disk([this] { goes_on(); });
}

TEST_F(FullDisk, TrainingStopsWhereTheRecipeSaysSo) {
  expect_on_small_disk([this] { stops(); });
}

}  // namespace
}  // namespace fourmi::testing
