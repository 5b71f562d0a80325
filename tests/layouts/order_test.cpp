// A rank that leaves out one call of a step is found at its next one, before anybody waits for it.
#include <gtest/gtest.h>

#include "tests/layouts/delayed_group.h"
#include "tests/train/runs.h"

namespace fourmi {
namespace {

/// Makes no exchange when its turn comes.
class SkippingGroup final : public DelayedGroup {
 public:
  SkippingGroup(std::unique_ptr<Group> inner, Delays& delays, int skipped)
      : DelayedGroup(std::move(inner), delays), left_(skipped) {}
  Request start_all_to_all(std::span<const std::byte> send, std::span<const std::size_t> send_counts,
                           std::span<std::byte> recv, std::span<const std::size_t> recv_counts) override {
    if (left_-- == 0) return {};
    return DelayedGroup::start_all_to_all(send, send_counts, recv, recv_counts);
  }

 private:
  int left_;
};

/// What each of two tensor ranks ends with, where rank 1 leaves out one exchange of its first step.
std::array<std::string, 2> run(int skipped) {
  Recipe recipe = small_recipe(Compute::fp32, Reproducibility::run);
  recipe.parallel.tensor = 2;
  recipe.guard.check_calls = true;
  auto groups = make_thread_groups("world", 2);
  std::array<std::string, 2> errors;
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < 2; ++rank)
    threads.emplace_back([&, rank] {
      ThreadPool pool(1);
      const Stream stream(pool);
      Delays none;
      SkippingGroup world(std::move(groups[rank]), none, rank == 1 ? skipped : -1);
      try {
        const Loader loader(recipe.data, load_sources(recipe.data.train, "data.train"), recipe.run.seed,
                            recipe.model.vocab_size);
        const RankGroups ranks = make_groups(recipe, world);
        Engine engine(recipe, ranks, stream);
        engine.initialise();
        engine.step(loader, loader.plan_step(loader.start()), 1, 0, [](Phase, std::int64_t) {});
      } catch (const Error& e) {
        errors[rank] = e.what();
        world.cancel("the other rank has an error");
        EXPECT_EQ(e.status(), rank == 1 ? ExitStatus::bug : ExitStatus::rank_lost) << e.what();
      }
    });
  for (std::thread& t : threads) t.join();
  return errors;
}

TEST(Order, ASkippedCallIsNamed) {
  for (const std::string& error : run(-1)) EXPECT_EQ(error, "");
  // The embedding's sum, and one further on.
  for (int skipped : {0, 3}) {
    const std::array<std::string, 2> errors = run(skipped);
    for (const char* part : {"rank 1, call ", "expected all_to_all of world (ranks 0, 1)"})
      EXPECT_NE(errors[1].find(part), std::string::npos) << errors[1];
    EXPECT_NE(errors[0].find("the other rank has an error"), std::string::npos) << errors[0];
  }
}

}  // namespace
}  // namespace fourmi
