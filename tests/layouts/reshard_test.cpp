// Any layout goes on from any other's checkpoint: saved in each of eight layouts, loaded in each of the eight.
#include <gtest/gtest.h>

#include "framework/checkpoint/load.h"
#include "framework/checkpoint/save.h"
#include "tests/layouts/mixture.h"

namespace fourmi {
namespace {

namespace fs = std::filesystem;

const Mixture layouts[] = {
    {.ranks = 1},
    {.ranks = 8, .zero = 2},
    {.ranks = 8, .tensor = 4},
    {.ranks = 8, .tensor = 2, .context = 4, .recompute = Recompute::full},
    {.ranks = 8, .pipeline = 4, .schedule = "zb-h1"},
    {.ranks = 8, .expert = 8, .bound = 1.25},
    {.ranks = 8, .tensor = 2, .expert = 2, .expert_tensor = 4, .zero = 3},
    {.ranks = 8, .tensor = 2, .context = 2, .pipeline = 2, .expert = 4, .schedule = "zb-v", .zero = 2},
};
constexpr int saved_at = 2, last = 5;

struct Outcome {
  std::string root;  ///< of the state that was saved
  std::vector<StepResult> steps;
};

/// From a checkpoint, or from the seed, through steps (first, last], to a checkpoint in the folder `to`.
Outcome go(const Mixture& layout, const fs::path& from, int first, int last_step, const fs::path& to) {
  const Recipe recipe = layout.of(sparse(Compute::bf16, Reproducibility::layout));
  auto groups = make_thread_groups("world", layout.ranks);
  Outcome outcome;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < layout.ranks; ++rank)
    threads.emplace_back([&, rank] {
      ThreadPool pool(1);
      const Stream stream(pool);
      Group& group = *groups[static_cast<std::size_t>(rank)];
      const Loader loader(recipe.data, load_sources(recipe.data.train, "data.train"), recipe.run.seed,
                          recipe.model.vocab_size);
      const RankGroups ranks = make_groups(recipe, group);
      Engine engine(recipe, ranks, stream);
      if (from.empty()) {
        engine.initialise();
      } else {
        const Checkpoint checkpoint = prove_checkpoint(group, from);
        load_boxes(group, checkpoint, engine.boxes());
        prove_live_state(group, checkpoint, engine.boxes());
        engine.state_loaded();
      }
      Position position = loader.start();
      double tokens = 0;
      for (int step = 1; step <= last_step; ++step) {
        const StepPlan plan = loader.plan_step(position);
        if (step > first) {
          const StepResult r = engine.step(loader, plan, step, tokens, [](Phase, std::int64_t) {});
          if (rank == 0) outcome.steps.push_back(r);
        }
        tokens += static_cast<double>(plan.num_targets);
        position = plan.next;
      }
      CheckpointState state;
      state.step = last_step;
      const SaveOutcome saved = save_checkpoint(group, to, engine.boxes(), state);
      ASSERT_TRUE(saved.committed()) << saved.error->what();
      if (rank == 0) outcome.root = saved.root;
    });
  for (std::thread& t : threads) t.join();
  return outcome;
}

class Resharding : public testing::Test {
 protected:
  Resharding() : folder_(fs::temp_directory_path() / fmt::format("fourmi-reshard-{}", getpid())) {
    fs::create_directories(folder_);
  }
  ~Resharding() override { fs::remove_all(folder_); }
  fs::path folder(const std::string& name) const { return folder_ / name; }
  static fs::path step(const fs::path& checkpoints, int number) {
    return checkpoints / fmt::format("step-{:08}", number);
  }

 private:
  fs::path folder_;
};

TEST_F(Resharding, SavedInEachOfEightLayoutsAndLoadedInEach) {
  const Outcome whole = go(layouts[0], {}, 0, last, folder("whole"));
  std::string root;
  for (std::size_t a = 0; a < std::size(layouts); ++a) {
    const fs::path saved = folder("saved-" + std::to_string(a));
    const Outcome first = go(layouts[a], {}, 0, saved_at, saved);
    if (a == 0) root = first.root;
    EXPECT_EQ(first.root, root) << name_of(layouts[a]);
    for (std::size_t b = 0; b < std::size(layouts); ++b) {
      const std::string what = name_of(layouts[a]) + " to " + name_of(layouts[b]);
      const fs::path again = folder(fmt::format("again-{}-{}", a, b));
      EXPECT_EQ(go(layouts[b], step(saved, saved_at), saved_at, saved_at, again).root, root) << what;
      if (b != (a + 1) % 8 && b != (a + 3) % 8) continue;
      const Outcome rest = go(layouts[b], step(again, saved_at), saved_at, last, folder("rest"));
      EXPECT_EQ(rest.root, whole.root) << what;
      ASSERT_EQ(rest.steps.size(), static_cast<std::size_t>(last - saved_at)) << what;
      for (std::size_t s = 0; s < rest.steps.size(); ++s) {
        const StepResult &ours = rest.steps[s], &theirs = whole.steps[saved_at + s];
        EXPECT_EQ(std::bit_cast<std::uint64_t>(ours.loss), std::bit_cast<std::uint64_t>(theirs.loss)) << what;
        EXPECT_EQ(std::bit_cast<std::uint64_t>(ours.grad_norm), std::bit_cast<std::uint64_t>(theirs.grad_norm)) << what;
      }
    }
  }
}

}  // namespace
}  // namespace fourmi
