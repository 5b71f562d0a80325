// Traced steps of thread ranks, each with a clock of its own and groups whose calls end late.
#pragma once

#include <filesystem>
#include <functional>
#include <thread>
#include <vector>

#include "framework/telemetry/trace_file.h"
#include "framework/train/engine.h"
#include "framework/train/simulated_step.h"
#include "tests/trace/late_group.h"

namespace fourmi {

/// A rank's clock that is ahead of the machine's.
class ShiftedClock : public DeviceClock {
 public:
  explicit ShiftedClock(std::int64_t ahead) : ahead_(ahead) {}
  std::int32_t mark() override {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    times_.push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() + ahead_);
    return static_cast<std::int32_t>(times_.size()) - 1;
  }
  const std::vector<std::int64_t>& read() override {
    read_ = std::move(times_);
    times_.clear();
    return read_;
  }

 private:
  std::int64_t ahead_;
  std::vector<std::int64_t> times_, read_;
};

struct TracedRank {
  Waits waits{};
  std::int64_t step_nanoseconds = 0;
  Lateness late;
};

struct TracedRun {
  std::chrono::milliseconds delay{0};
  std::function<std::int64_t(int)> ahead = [](int) { return 0; };  ///< nanoseconds, by rank
  bool corrected = true;                                           ///< are clocks measured?
  std::filesystem::path directory{};                               ///< empty: no file
};

/// The second of two steps, by rank; its file is step 2's.
inline std::vector<TracedRank> run_traced(const Recipe& recipe, int ranks, const TracedRun& how) {
  auto groups = make_thread_groups("world", ranks);
  std::vector<TracedRank> result(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      TracedRank& mine = result[static_cast<std::size_t>(r)];
      LateGroup world(std::move(groups[static_cast<std::size_t>(r)]), mine.late);
      ThreadPool pool(1);
      Timeline timeline(1 << 15);
      const std::int64_t ahead = how.ahead(r);
      if (ahead != 0) timeline.use(std::make_unique<ShiftedClock>(ahead));
      const Stream stream = Stream(pool).with(timeline);
      const Loader loader(recipe.data, load_sources(recipe.data.train, "data.train"), recipe.run.seed,
                          recipe.model.vocab_size);
      const RankGroups own = make_groups(recipe, world);
      Engine engine(recipe, own, stream);
      CallLanes lanes(own, timeline, 1 << 14);
      if (ahead != 0) lanes.use(std::make_unique<ShiftedClock>(ahead));
      engine.initialise();
      StepPlan plan;
      Position position = loader.start();
      RankClock clock;
      for (int s = 1; s <= 2; ++s) {
        loader.plan_step(position, plan);
        clock.before = read_clock(world, ahead);
        mine.late = {.delay = how.delay, .by_group = {}};
        timeline.begin_step(s == 2);
        lanes.begin_step(s == 2);
        engine.step(loader, plan, s, 0, [](Phase, std::int64_t) {});
        lanes.end_step();
        timeline.end_step();
        position = plan.next;
      }
      mine.waits = lanes.waits();
      mine.step_nanoseconds = timeline.step_nanoseconds();
      const Lateness late = mine.late;
      mine.late.delay = {};
      clock.after = read_clock(world, ahead);
      if (!how.corrected) clock = {};
      if (!how.directory.empty()) {
        RankActions actions{own.coordinate(Axis::pipeline), on_device_clock(engine.pipeline().done(), timeline)};
        const TraceLabels labels{2, r, fmt::format("host-{}", r), "traced"};
        std::string more;
        if (r == 0) more = trace_events(simulate_step(recipe, engine.stages(), std::span(&actions, 1)), ranks);
        write_trace(world, how.directory, labels, rank_trace(timeline, &lanes, clock, labels), more);
      }
      mine.late = late;
    });
  for (std::thread& t : threads) t.join();
  return result;
}

}  // namespace fourmi
