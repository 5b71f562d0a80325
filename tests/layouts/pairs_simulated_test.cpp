// The simulator predicts steps: from times of phases, which a run with pairs tells, come the time of every pair and of
// every half alone (framework/model/pair_seconds.h), and from these the step of each schedule - pairs phase by phase,
// one half after the other, and 1f1b. No time of an action or of a step goes into it, but of weights' halves alone.
#include <gtest/gtest.h>

#include <barrier>

#include "framework/train/engine.h"
#include "parallel/order/order_groups.h"
#include "tests/layouts/pairs_recipe.h"
#include "tests/layouts/predicted_step.h"

namespace fourmi {
namespace {

/// One rank of one run, on a clock of its own.
class Rank {
 public:
  Rank(const Recipe& recipe, std::unique_ptr<Group> world)
      : world_(std::move(world), clock_),
        loader_(recipe.data, load_sources(recipe.data.train, "data.train"), recipe.run.seed, recipe.model.vocab_size),
        ranks_(make_groups(recipe, world_)),
        engine_(recipe, ranks_, stream_),
        position_(loader_.start()) {
    clock_.slow = {name_of(GroupKind::expert)}, clock_.observer = &log;
    timeline_.tell(&log);
    engine_.initialise();
    clock_.pause();
  }
  struct Step {
    double first = 0, last = 0;  ///< action
    double computed = 0, travelled = 0, exposed = 0;
    std::int64_t bytes = 0;
    double loss = 0;
  };
  int place() const { return ranks_.coordinate(Axis::pipeline); }
  /// What other runs do between its steps is not of its time.
  Step step(double seconds_per_byte, bool really) {
    clock_.really = really, clock_.seconds_per_byte = seconds_per_byte;
    clock_.resume();
    world_.barrier();
    log.begin();
    const VirtualClock before = clock_;
    const StepPlan plan = loader_.plan_step(position_);
    timeline_.begin_step();
    const double loss = engine_.step(loader_, plan, ++number_, 0, [](Phase, std::int64_t) {}).loss;
    timeline_.end_step();
    position_ = plan.next;
    world_.barrier();
    clock_.pause();
    log.table.late.add({clock_.late - before.late, clock_.messages - before.messages});
    return {log.first(),
            log.last(),
            clock_.computed - before.computed,
            clock_.travelled - before.travelled,
            clock_.exposed - before.exposed,
            clock_.bytes - before.bytes,
            loss};
  }

 private:
  VirtualClock clock_;

 public:
  PhaseLog log{clock_};

 private:
  ThreadPool pool_{1};
  Timeline timeline_;
  Stream stream_{pool_, best_isa(), &timeline_};
  VirtualGroup world_;
  Loader loader_;
  RankGroups ranks_;
  Engine engine_;
  Position position_;
  std::int64_t number_ = 0;
};

/// Of all ranks, a mean step.
struct Measured {
  double makespan = 0;  ///< from the first action's begin to the last one's end
  double computed = 0, travelled = 0, exposed = 0;
  double loss = 0;
};
struct Runs {
  std::vector<Measured> of;  ///< each recipe
  PhaseTable phases;         ///< of the first one
  /// Its pairs one by one: [step][place in the pipeline], of each rank there.
  std::vector<std::map<int, std::vector<PairList>>> pairs;
};

/// Some steps of each recipe in turn, so that what slows the machine down slows all of them, where all that travels to
/// experts takes as long as all that is computed.
Runs run(const std::vector<Recipe>& recipes, int steps, bool really) {
  constexpr std::size_t ranks = 4;
  std::vector<std::vector<std::unique_ptr<Group>>> groups;
  for (std::size_t i = 0; i < recipes.size(); ++i) groups.push_back(make_thread_groups("world", ranks));
  std::mutex mutex;
  std::barrier together(ranks);
  Runs all{std::vector<Measured>(recipes.size()), {}, {}};
  all.pairs.resize(static_cast<std::size_t>(steps));
  std::vector<std::vector<Interval>> spans(recipes.size(), std::vector<Interval>(static_cast<std::size_t>(steps)));
  double computed = 0;
  std::int64_t bytes = 0;
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      std::vector<std::unique_ptr<Rank>> mine;
      Rank::Step free;
      for (std::size_t i = 0; i < recipes.size(); ++i) {
        mine.push_back(std::make_unique<Rank>(recipes[i], std::move(groups[i][r])));
        mine[i]->step(0, false);
        free = mine[i]->step(0, false);
      }
      {
        std::lock_guard lock(mutex);
        computed += free.computed, bytes += free.bytes;
      }
      together.arrive_and_wait();
      for (auto& rank : mine) rank->log.table = {};
      for (std::size_t s = 0; s < static_cast<std::size_t>(steps); ++s)
        for (std::size_t i = 0; i < recipes.size(); ++i) {
          const Rank::Step step = mine[i]->step(computed / static_cast<double>(bytes), really);
          std::lock_guard lock(mutex);
          Interval& span = spans[i][s];
          span = span.end == 0 ? Interval{step.first, step.last}
                               : Interval{std::min(span.begin, step.first), std::max(span.end, step.last)};
          Measured& m = all.of[i];
          m.computed += step.computed / steps, m.travelled += step.travelled / steps, m.exposed += step.exposed / steps;
          m.loss = step.loss;
          if (i == 0) all.pairs[s][mine[0]->place()].push_back(mine[0]->log.pairs);
        }
      std::lock_guard lock(mutex);
      all.phases.add(mine[0]->log.table);
    });
  for (std::thread& t : threads) t.join();
  for (std::size_t i = 0; i < recipes.size(); ++i)
    for (const Interval& span : spans[i]) all.of[i].makespan += (span.end - span.begin) / steps;
  return all;
}

constexpr int micro_batches = 16;
const char* const names[] = {"pairs phase by phase", "pairs one after the other", "1f1b"};

struct Compared {
  Runs runs;
  std::vector<double> predicted;
  double off(std::size_t i) const { return predicted[i] / runs.of[i].makespan - 1; }
  /// How much longer 1f1b takes than pairs phase by phase.
  double measured_advantage() const { return runs.of[2].makespan / runs.of[0].makespan; }
  double predicted_advantage() const { return predicted[2] / predicted[0]; }
};

Compared compare(std::int64_t width, int steps, bool really) {
  const std::vector<Recipe> recipes = {pairs_recipe("dualpipev", OverlapPairs::always, width),
                                       pairs_recipe("dualpipev", OverlapPairs::never, width),
                                       pairs_recipe("1f1b", OverlapPairs::automatic, width)};
  Compared c{run(recipes, steps, really), {}};
  for (std::size_t i = 0; i < recipes.size(); ++i) {
    c.predicted.push_back(predict(recipes[i], micro_batches, c.runs.phases));
    const Measured& m = c.runs.of[i];
    fmt::print(
        "{}: computed {:.4f} s, travelled {:.4f} s, exposed {:.1f}%; measured {:.4f} s, predicted {:.4f} s "
        "({:+.1f}%)\n",
        names[i], m.computed / 4, m.travelled / 4, 100 * m.exposed / m.travelled, m.makespan, c.predicted[i],
        100 * c.off(i));
    EXPECT_EQ(m.loss, c.runs.of[0].loss);
  }
  fmt::print("1f1b takes {:.3f} times as long as pairs, predicted {:.3f}\n", c.measured_advantage(),
             c.predicted_advantage());
  return c;
}

TEST(PairsSimulated, StepsAreAsSimulated) {
  const Compared c = compare(64, 2, false);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(c.off(i), 0, 0.15) << names[i];
  EXPECT_GT(c.measured_advantage(), 1.2);
  EXPECT_NEAR(c.predicted_advantage() / c.measured_advantage(), 1, 0.15);
}

class LongPairsSimulated : public testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(Long, LongPairsSimulated, testing::Values(128, 256));

TEST_P(LongPairsSimulated, StepsAreAsSimulated) {
  const Compared c = compare(GetParam(), 5, false);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(c.off(i), 0, 0.1) << names[i];
  EXPECT_NEAR(c.predicted_advantage() / c.measured_advantage(), 1, 0.1);
}

/// 4 ranks on what cores there are. How long phases take is measured where they contend for them.
TEST_P(LongPairsSimulated, StepsAreAsSimulatedOnTheMachinesClock) {
  const Compared c = compare(GetParam(), 5, true);
  const Recipe together = pairs_recipe("dualpipev", OverlapPairs::always, GetParam());
  Mean predicted;
  for (const auto& step : c.runs.pairs) predicted.add(predict_one_by_one(together, micro_batches, c.runs.phases, step));
  const double off = predicted.value() / c.runs.of[0].makespan - 1;
  fmt::print("{}, with each pair's own phases: predicted {:.4f} s ({:+.1f}%)\n", names[0], predicted.value(),
             100 * off);
  EXPECT_NEAR(off, 0, 0.25);
}

}  // namespace
}  // namespace fourmi
