// parallel.dispatcher: device over several nodes: the bits of the all-to-all in layouts of the invariance matrix whose
// ranks share experts, and what it takes in memory. Calls are held against their order in all of it.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/exchange/window.h"
#include "tests/layouts/mixtures.h"

namespace fourmi {
namespace {

Mixture over_nodes(Mixture m, int node_size) {
  m.device = true, m.node_size = node_size;
  return m;
}
Mixture with_all_to_all(Mixture m) {
  m.device = false, m.node_size = 0;
  return m;
}

/// Each of the matrix that has two nodes or more, with nodes of all sizes. Rings are in mode run.
std::vector<Mixture> of_nodes() {
  std::vector<Mixture> some;
  for (const Mixture& m : mixtures)
    for (int size = 1; size < m.expert; size *= 2) some.push_back(over_nodes(m, size));
  return some;
}

/// Few, of which each has what others lack: 2 and 4 nodes of 2, a bound, and pairs.
std::vector<Mixture> some_of_nodes() {
  return {
      {.ranks = 4, .expert = 4, .node_size = 2, .bound = 1.25, .zero = 3, .device = true},
      {.tensor = 2, .context = 2, .expert = 8, .node_size = 2, .recompute = Recompute::full, .device = true},
      {.tensor = 2, .pipeline = 2, .expert = 4, .schedule = "dualpipev", .node_size = 2, .zero = 2, .device = true}};
}

void expect_bits_of_the_all_to_all(const Mixture& m, Compute compute, int steps) {
  const Recipe r = sparse(compute, m.ring ? Reproducibility::run : Reproducibility::layout);
  EXPECT_EQ(expert_ranks(m.of(r)).method, DispatchMethod::rail);
  expect_equal_bits(train_on(with_all_to_all(m).of(r), m.ranks, steps), train_on(m.of(r), m.ranks, steps), name_of(m));
}

class RailDispatcher : public testing::TestWithParam<Mixture> {};
INSTANTIATE_TEST_SUITE_P(Short, RailDispatcher, testing::ValuesIn(some_of_nodes()),
                         [](const auto& m) { return name_of(m.param); });
TEST_P(RailDispatcher, BitsAreThoseOfTheAllToAll) {
  expect_bits_of_the_all_to_all(GetParam(), Compute::bf16, 2);
}

class LongRailDispatcher : public RailDispatcher {};
INSTANTIATE_TEST_SUITE_P(Long, LongRailDispatcher, testing::ValuesIn(of_nodes()),
                         [](const auto& m) { return name_of(m.param); });
TEST_P(LongRailDispatcher, TenStepsAreThoseOfTheAllToAll) {
  for (const Compute compute : {Compute::fp32, Compute::bf16}) expect_bits_of_the_all_to_all(GetParam(), compute, 10);
}

TEST(RailDispatch, TheMatrixHasEveryAxisBesideNodes) {
  const std::vector<Mixture> all = of_nodes();
  EXPECT_GE(all.size(), 20u);
  const auto some = [&](const auto& is) { EXPECT_TRUE(std::any_of(all.begin(), all.end(), is)); };
  some([](const Mixture& m) { return m.tensor > 1; });
  some([](const Mixture& m) { return m.context > 1; });
  some([](const Mixture& m) { return m.expert_tensor > 1; });
  some([](const Mixture& m) { return m.bound > 0 && m.node_size == 2 && m.zero == 3; });
  some([](const Mixture& m) { return m.expert == 8 && m.node_size == 4; });
  for (const char* schedule : {"zb-v", "dualpipev", "interleaved"})
    some([=](const Mixture& m) { return m.pipeline > 1 && m.schedule == schedule; });
}

// One node is the path without nodes.
TEST(RailDispatch, OneNodeNeedsNoRail) {
  const Recipe recipe = sparse(Compute::bf16, Reproducibility::layout);
  EXPECT_EQ(expert_ranks(Mixture{.ranks = 4, .expert = 4, .node_size = 4, .device = true}.of(recipe)).method,
            DispatchMethod::device);
  EXPECT_EQ(expert_ranks(Mixture{.ranks = 4, .expert = 4, .node_size = 1, .device = true}.of(recipe)).method,
            DispatchMethod::rail);
}

std::int64_t bytes_of(const Engine::Memory& memory, std::string_view arena) {
  for (const auto& [name, size] : memory)
    if (arena == name) return size;
  return -1;
}

// Both hops are in what `--dry-run` says.
TEST(RailDispatch, MeasureTellsTheMemoryToTheByte) {
  const Recipe recipe = sparse(Compute::bf16, Reproducibility::layout);
  const Mixture m{.ranks = 4, .expert = 4, .node_size = 2, .bound = 1.25, .device = true};
  const Recipe here = m.of(recipe);
  Mixture hierarchical = m;
  hierarchical.device = false;
  const Engine::Memory told = Engine::measure(here, m.ranks), plain = Engine::measure(hierarchical.of(recipe), m.ranks);
  EXPECT_EQ(most_bytes(train_on(here, m.ranks, 1)), measured_bytes(here, m.ranks));
  const ExpertRanks ranks = expert_ranks(here);
  const std::int64_t window = dispatch_sizes(DispatchMethod::rail, ranks.size,
                                             ranks.options(here.model, batch_sizes(here).shard_rows(), DType::f32))
                                  .window_bytes;
  EXPECT_GT(window, 0);
  const std::int64_t more = bytes_of(told, "communication") - bytes_of(plain, "communication");
  EXPECT_GE(more, window);
  EXPECT_LE(more, window + exchange::Window::alignment);
}

}  // namespace
}  // namespace fourmi
