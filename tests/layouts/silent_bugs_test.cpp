// Mistakes that parallel training forgives: no crash, no wrong shape, and with AdamW hardly another loss curve. The
// campaign tests/silent_bugs puts each into a copy of the tree and must see these tests fail (docs/silent_bugs.md).
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>

#include "framework/checkpoint/load.h"
#include "framework/checkpoint/save.h"
#include "tests/layouts/layouts.h"
#include "tests/parallel/member_threads.h"

namespace fourmi {
namespace {

/// Latent attention, routed and shared experts, multi-token prediction, balance loss: any axis may cut it.
Recipe sparse_recipe(Compute compute = Compute::fp64, Reproducibility mode = Reproducibility::run) {
  Recipe r = small_recipe(compute, mode);
  r.model.intermediate_size = r.model.moe_intermediate_size = 64;
  r.model.num_key_value_heads = 4;
  return r;
}

struct Layout {
  int ranks = 1, expert = 1, expert_tensor = 1, tensor = 1, pipeline = 1, zero = 1;

  Recipe of(Recipe r) const {
    r.parallel.expert = expert, r.parallel.expert_tensor = expert_tensor;
    r.parallel.tensor = tensor, r.parallel.zero = zero;
    return pipeline > 1 ? with_pipeline(r, "1f1b", pipeline) : r;
  }
  std::string name() const {
    return fmt::format("{} ranks: expert {}, expert-tensor {}, tensor {}, pipeline {}, zero {}", ranks, expert,
                       expert_tensor, tensor, pipeline, zero);
  }
  /// One step.
  RunResult run(const Recipe& r) const { return train_on(of(r), ranks, 1); }
};

bool is_routed_expert(const std::string& name) {
  return name.find(".mlp.experts.") != std::string::npos;
}
bool is_router(const std::string& name) {
  return name.ends_with(".mlp.gate.weight");
}

double norm_of(const std::vector<double>& x) {
  return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
}

std::vector<double> difference(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> d(a.size());
  std::transform(a.begin(), a.end(), b.begin(), d.begin(), std::minus<>());
  return d;
}

// An expert's gradient is the sum over all tokens of the batch that chose it, on however many ranks they are and
// wherever it is: not their mean, and not that sum as often as ranks share the experts.
TEST(SilentBugs, GradientsOfExpertsAreOffByNoFactor) {
  const RunResult one = Layout{}.run(sparse_recipe());
  for (const Layout& layout : {Layout{.ranks = 2, .expert = 2}, Layout{.ranks = 4, .expert = 2},
                               Layout{.ranks = 4, .expert = 4}, Layout{.ranks = 4, .expert = 2, .zero = 2}}) {
    const RunResult many = layout.run(sparse_recipe());
    int experts = 0;
    for (const auto& [name, expected] : one.gradients) {
      if (!is_routed_expert(name)) continue;
      ++experts;
      const std::vector<double>& got = many.gradients.at(name);
      const double along = std::inner_product(got.begin(), got.end(), expected.begin(), 0.0);
      EXPECT_NEAR(along / (norm_of(expected) * norm_of(expected)), 1, 1e-9) << layout.name() << ": " << name;
      EXPECT_LE(relative_error(expected, got), 1e-9) << layout.name() << ": " << name;
    }
    EXPECT_EQ(experts, 8 * 3 * 3) << "matrices of 8 experts in 3 layers";
  }
}

// The balance loss is a part of what is differentiated, not only of what is told: a gradient of its own reaches each
// router, as large as its weight, and the same on all layouts.
TEST(SilentBugs, TheBalanceLossReachesEveryRouter) {
  const auto with_weight = [](const Layout& layout, double weight) {
    Recipe r = sparse_recipe();
    r.loss.balance_weight.steps = {{0, weight}};
    return layout.run(r).gradients;
  };
  const auto without = with_weight({}, 0), once = with_weight({}, 0.1), twice = with_weight({}, 0.2);
  int routers = 0;
  for (const auto& [name, none] : without) {
    if (!is_router(name)) continue;
    ++routers;
    const std::vector<double> of_once = difference(once.at(name), none), of_twice = difference(twice.at(name), none);
    EXPECT_GT(norm_of(of_once), 1e-6 * norm_of(none)) << name;
    EXPECT_NEAR(norm_of(of_twice), 2 * norm_of(of_once), 1e-6 * norm_of(of_once)) << name;
  }
  EXPECT_EQ(routers, 3) << "of two blocks and multi-token prediction";
  for (const Layout& layout :
       {Layout{.ranks = 4, .tensor = 4}, Layout{.ranks = 2, .expert = 2}, Layout{.ranks = 2, .pipeline = 2}}) {
    const auto many_without = with_weight(layout, 0), many = with_weight(layout, 0.1);
    for (const auto& [name, none] : without) {
      if (!is_router(name)) continue;
      const std::vector<double> expected = difference(once.at(name), none),
                                got = difference(many.at(name), many_without.at(name));
      EXPECT_LE(norm_of(difference(got, expected)), 1e-6 * norm_of(expected)) << layout.name() << ": " << name;
    }
  }
}

// Between cut layers a tensor rank has some rows only, so norms, router and latent projections have a part of their
// gradient on each: summed before anybody squares it.
TEST(SilentBugs, SequenceParallelismDoesNotMoveTheNorm) {
  const double one = Layout{}.run(sparse_recipe()).steps[0].grad_norm;
  for (const Layout& layout : {Layout{.ranks = 2, .tensor = 2}, Layout{.ranks = 4, .tensor = 4},
                               Layout{.ranks = 4, .tensor = 2}, Layout{.ranks = 4, .tensor = 4, .zero = 3}}) {
    const double many = layout.run(sparse_recipe()).steps[0].grad_norm;
    EXPECT_NEAR(many, one, 1e-9 * one) << layout.name() << ": " << 100 * (many / one - 1) << "% away";
  }
}

void expect_counted_once(const Recipe& recipe, std::initializer_list<Layout> layouts) {
  double one = 0;
  for (const Layout& layout : layouts) {
    const RunResult run = layout.run(recipe);
    double squares = 0;
    for (const auto& [name, gradient] : run.gradients) squares += norm_of(gradient) * norm_of(gradient);
    const double expected = std::sqrt(squares) / static_cast<double>(run.steps[0].targets);
    if (one == 0) one = expected;
    EXPECT_NEAR(run.steps[0].grad_norm, expected, 1e-9 * expected) << layout.name();
    EXPECT_NEAR(run.steps[0].grad_norm, one, 1e-9 * one) << layout.name();
  }
}

// The norm that clips is that of the whole gradients, each parameter once: also of those that several ranks, several
// stages, or embedding and head have. It is compared with the gradients themselves, so that one rank may be wrong too.
TEST(SilentBugs, TheNormCountsEveryParameterOnce) {
  expect_counted_once(sparse_recipe(), {{},
                                        {.ranks = 4},
                                        {.ranks = 2, .tensor = 2},
                                        {.ranks = 4, .expert = 2},
                                        {.ranks = 4, .expert_tensor = 2},
                                        {.ranks = 2, .pipeline = 2},
                                        {.ranks = 4, .zero = 3}});
  Recipe tied = deep_dense_recipe(Compute::fp64, Reproducibility::run);
  tied.model.num_hidden_layers = 3;
  expect_counted_once(tied, {{}, {.ranks = 2, .tensor = 2}, {.ranks = 2, .pipeline = 2}, {.ranks = 4, .pipeline = 2}});
}

/// How many pieces of optimizer state each rank of a run has: by rank, from boxes().
std::vector<std::size_t> num_pieces(const Recipe& recipe, int ranks) {
  return run_members(ranks, [&](Group& world) {
    ThreadPool pool(1);
    const Stream stream(pool);
    const RankGroups groups = make_groups(recipe, world);
    return Engine(recipe, groups, stream).boxes().size();
  });
}

// Panels are dealt out by load, so one rank has many small pieces and another a few large ones. Nobody may take the
// lengths of rank 0, or its own, for those of all.
TEST(SilentBugs, PiecesOfTheOptimizerDifferBetweenRanks) {
  const Recipe recipe = sparse_recipe(Compute::fp32, Reproducibility::layout);
  const RunResult one = Layout{}.run(recipe);
  for (const Layout& layout : {Layout{.ranks = 4}, Layout{.ranks = 4, .expert = 2}, Layout{.ranks = 4, .zero = 3}}) {
    const std::vector<std::size_t> pieces = num_pieces(layout.of(recipe), layout.ranks);
    EXPECT_GT(std::set(pieces.begin(), pieces.end()).size(), 1u) << layout.name() << " would show nothing";
    expect_equal_bits(one, layout.run(recipe), layout.name());
    if (testing::Test::HasFailure()) return;  // with wrong weights another layout may find no finite loss, and throw
  }
}

// A checkpoint lists what each rank brings.
TEST(SilentBugs, PiecesThatDifferBetweenRanksAreAllSaved) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / fmt::format("fourmi-silent-bugs-{}", getpid());
  const Layout layout{.ranks = 4, .expert = 2};
  const Recipe recipe = layout.of(sparse_recipe(Compute::fp32));
  const std::vector<std::size_t> pieces = num_pieces(recipe, layout.ranks);
  EXPECT_GT(*std::max_element(pieces.begin(), pieces.end()), pieces[0]) << "rank 0 has most: this would show nothing";
  run_members(layout.ranks, [&](Group& world) {
    ThreadPool pool(1);
    const Stream stream(pool);
    const RankGroups groups = make_groups(recipe, world);
    Engine saved(recipe, groups, stream), loaded(recipe, groups, stream);
    saved.initialise();
    CheckpointState state;
    state.step = 1;
    const SaveOutcome outcome = save_checkpoint(world, folder, saved.boxes(), state);
    EXPECT_TRUE(outcome.committed()) << (outcome.error ? outcome.error->what() : "");
    if (!outcome.committed()) return 0;
    const Checkpoint checkpoint = prove_checkpoint(world, outcome.path);
    load_boxes(world, checkpoint, loaded.boxes());
    loaded.state_loaded();
    prove_live_state(world, checkpoint, loaded.boxes());
    return 0;
  });
  std::filesystem::remove_all(folder);
}

// With all experts on every rank nothing travels to another expert, but their columns are still cut: sums over these,
// and over the ranks that hold the same of them, are as needed as ever.
TEST(SilentBugs, ColumnsOfExpertsAreSummedWhereNobodyElseHasExperts) {
  const RunResult one = Layout{}.run(sparse_recipe());
  for (const Layout& layout :
       {Layout{.ranks = 2, .expert_tensor = 2}, Layout{.ranks = 4, .expert_tensor = 2},
        Layout{.ranks = 4, .expert_tensor = 4}, Layout{.ranks = 4, .expert_tensor = 2, .tensor = 2}})
    expect_agreement(one, layout.run(sparse_recipe()), layout.name());
}

}  // namespace
}  // namespace fourmi
