// What runs while training goes on.
#include <condition_variable>
#include <mutex>

#include "framework/checkpoint/folder.h"
#include "tests/checkpoint/faulty_disk.h"
#include "tests/checkpoint/sample.h"

namespace fourmi::testing {
namespace {

/// Holds every write until it is opened.
class GatedDisk : public Disk {
 public:
  void open_gate() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  ssize_t pwrite(int file, const void* data, std::size_t bytes, off_t offset) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return open_; });
    lock.unlock();
    return Disk::pwrite(file, data, bytes, offset);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

TEST(Background, TrainingChangesItsTensorsWhileTheSnapshotIsWritten) {
  for (int size : {1, 2, 4}) {
    const TemporaryFolder run;
    GatedDisk gate;
    on_ranks(size, [&](Group& group) {
      SaveOptions options;
      if (group.rank() == size - 1) options.disk = &gate;  // one slow rank
      CheckpointSaver saver(group, run.path(), options);
      EXPECT_FALSE(saver.pending());
      EXPECT_FALSE(saver.poll());
      Boxes boxes(group.rank(), size, true);
      saver.start(boxes.get(), sample_state(10));
      EXPECT_TRUE(saver.pending());
      for (const Box& b : boxes.get())
        std::memset(b.data.data, 0x5a, static_cast<std::size_t>(b.data.bytes()));  // the next step
      std::int64_t sum = 1;
      for (int i = 0; i < 100; ++i) {
        group.all_sum(std::span(&sum, 1));  // training's own calls of the group
        sum = 1;
        EXPECT_FALSE(saver.poll());
      }
      EXPECT_TRUE(list_steps(run.path()).empty());
      if (group.rank() == size - 1) gate.open_gate();
      std::optional<SaveOutcome> outcome;
      while (!outcome) outcome = saver.poll();
      EXPECT_TRUE(outcome->committed());
      EXPECT_FALSE(saver.pending());

      const Boxes later(group.rank(), size, true, 3);  // the saver is used again
      saver.start(later.get(), sample_state(20));
      EXPECT_TRUE(saver.finish().committed());
    });
    expect_loads(2, run.path() / step_name(10));
    expect_loads(2, run.path() / step_name(20), 3);
  }
}

TEST(Background, AFailureIsReportedAtTheEndAndDoesNotStopTheNextSave) {
  const TemporaryFolder run;
  SmallDisk small(3000);
  on_ranks(2, [&](Group& group) {
    SaveOptions options;
    if (group.rank() == 1) options.disk = &small;
    CheckpointSaver saver(group, run.path(), options);
    const Boxes boxes(group.rank(), 2, true);
    saver.start(boxes.get(), sample_state(10));
    const SaveOutcome o = saver.finish();
    EXPECT_FALSE(o.committed());
    EXPECT_FALSE(saver.pending());
    group.barrier();
    if (group.rank() == 1) small.refill(1 << 20);
    saver.start(boxes.get(), sample_state(11));
    EXPECT_TRUE(saver.finish().committed());
  });
  expect_loads(1, run.path() / step_name(11));
}

TEST(Background, AnAbandonedSaveLeavesNothingThatLooksCommitted) {
  const TemporaryFolder run;
  save_sample(2, run.path(), 10);
  on_ranks(2, [&](Group& group) {
    const Boxes boxes(group.rank(), 2, true);
    CheckpointSaver saver(group, run.path());
    saver.start(boxes.get(), sample_state(20));
  });
  EXPECT_EQ(list_steps(run.path()), std::vector<std::int64_t>{10});
  save_sample(2, run.path(), 30);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(run.path()), {}), 3);  // 10, 30, latest
}

TEST(Background, ALostRankEndsTheSaveOnAllRanks) {
  const TemporaryFolder run;
  auto groups = make_thread_groups("test", 2);
  const Boxes boxes(0, 2, true);
  std::thread peer([&] { groups[1]->cancel("killed"); });
  CheckpointSaver saver(*groups[0], run.path());
  try {
    saver.start(boxes.get(), sample_state(10));
    saver.finish();
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::rank_lost);
  }
  peer.join();
  EXPECT_TRUE(list_steps(run.path()).empty());
}

}  // namespace
}  // namespace fourmi::testing
