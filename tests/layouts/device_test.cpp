// Experts' rows by way of peers' memory (parallel.dispatcher: device): the bits of the all-to-all in each layout of the
// invariance matrix whose ranks share experts, and what it takes in memory and traffic. Calls are held against their
// order in all of it.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/exchange/window.h"
#include "kernels/numerics/mix.h"
#include "tests/layouts/delayed_group.h"
#include "tests/layouts/device_bits.h"

namespace fourmi {
namespace {

/// Rings (of context) are in mode run, which gives one layout's bits as well.
std::vector<Mixture> sharing_experts(bool rings) {
  std::vector<Mixture> some;
  for (const Mixture& m : mixtures)
    if (m.expert > 1 && (rings || !m.ring)) some.push_back(with_device(m));
  return some;
}

void expect_bits_of_the_all_to_all(const Mixture& m, Recipe (*recipe)(Compute, Reproducibility), Compute compute,
                                   int steps) {
  expect_bits_of_the_all_to_all(m, recipe(compute, m.ring ? Reproducibility::run : Reproducibility::layout), steps,
                                name_of(m));
}

/// Rows of eight bits, with their scales, in some of the precisions that have such.
void expect_bits_of_eight(const Mixture& m, int steps, int most_precisions) {
  for (const auto& [name, precision] : precisions_of_eight) {
    if (!has_mode_layout(precision) || most_precisions-- <= 0) continue;
    Recipe r = with_precision(sparse_in_blocks(Compute::bf16, Reproducibility::layout, m), precision);
    r.precision.dispatch = DispatchFormat::fp8;
    expect_bits_of_the_all_to_all(m, r, steps, name_of(m) + ", " + name);
  }
}

/// Two of which each has what others lack, and as many as fit into the time, drawn.
std::vector<Mixture> drawn() {
  constexpr std::uint64_t seed = 7;
  std::vector<Mixture> all = sharing_experts(true), some;
  const auto take = [&](const auto& wanted) {
    const auto at = std::find_if(all.begin(), all.end(), wanted);
    if (at == all.end()) return;
    some.push_back(*at), all.erase(at);
  };
  take([](const Mixture& m) { return m.tensor * m.context * m.pipeline == 8 && m.bound > 0 && m.zero == 3; });
  take([](const Mixture& m) { return m.pipeline > 1 && m.expert_tensor > 1 && m.bound > 0; });
  for (std::uint64_t i = 0; i < 3; ++i) {
    const auto place = static_cast<std::size_t>(mix64(seed + i) % all.size());
    take([&](const Mixture& m) { return name_of(m) == name_of(all[place]); });
  }
  return some;
}

class DeviceDispatcher : public testing::TestWithParam<Mixture> {};
INSTANTIATE_TEST_SUITE_P(Short, DeviceDispatcher, testing::ValuesIn(drawn()),
                         [](const auto& m) { return name_of(m.param); });
TEST_P(DeviceDispatcher, BitsAreThoseOfTheAllToAll) {
  expect_bits_of_the_all_to_all(GetParam(), sparse, Compute::bf16, 3);
}

TEST(DeviceDispatch, EightBitsAreThoseOfTheAllToAll) {
  expect_bits_of_eight({.ranks = 2, .expert = 2, .bound = 1.25, .device = true}, 1, 1);
}

class LongDeviceDispatcher : public DeviceDispatcher {};
INSTANTIATE_TEST_SUITE_P(Long, LongDeviceDispatcher, testing::ValuesIn(sharing_experts(true)),
                         [](const auto& m) { return name_of(m.param); });
TEST_P(LongDeviceDispatcher, TwentyStepsAreThoseOfTheAllToAll) {
  for (const Compute compute : {Compute::fp32, Compute::bf16})
    expect_bits_of_the_all_to_all(GetParam(), sparse, compute, 20);
}

class LongDeviceEight : public DeviceDispatcher {};
INSTANTIATE_TEST_SUITE_P(Long, LongDeviceEight, testing::ValuesIn(sharing_experts(false)),
                         [](const auto& m) { return name_of(m.param); });
TEST_P(LongDeviceEight, BitsAreThoseOfTheAllToAll) {
  expect_bits_of_eight(GetParam(), 3, 100);
}

TEST(DeviceDispatch, TheMatrixHasEveryAxisBesideExperts) {
  const std::vector<Mixture> all = sharing_experts(false);
  EXPECT_GE(all.size(), 18u);
  const auto some = [&](const auto& is) { EXPECT_TRUE(std::any_of(all.begin(), all.end(), is)); };
  some([](const Mixture& m) { return m.tensor > 1; });
  some([](const Mixture& m) { return m.context > 1; });
  some([](const Mixture& m) { return m.expert_tensor > 1 && m.bound > 0; });
  for (int zero : {1, 2, 3}) some([=](const Mixture& m) { return m.zero == zero; });
  some([](const Mixture& m) { return m.zero == 3 && m.bound > 0; });
  for (const char* schedule : {"1f1b", "zb-h1", "zb-v", "dualpipev", "interleaved"})
    some([=](const Mixture& m) { return m.pipeline > 1 && m.schedule == schedule; });
  EXPECT_EQ(drawn().size(), 5u);
  const Recipe recipe = sparse(Compute::bf16, Reproducibility::layout);
  for (const Mixture& m : all) EXPECT_EQ(expert_ranks(m.of(recipe)).method, DispatchMethod::device) << name_of(m);
}

std::int64_t bytes_of(const Engine::Memory& memory, std::string_view arena) {
  for (const auto& [name, size] : memory)
    if (arena == name) return size;
  return -1;
}

// The window is of the communication arena, and of what `--dry-run` says.
TEST(DeviceDispatch, MeasureTellsTheMemoryToTheByte) {
  const Recipe recipe = sparse(Compute::bf16, Reproducibility::layout);
  for (const Mixture& m : {Mixture{.ranks = 4, .expert = 4, .device = true},
                           Mixture{.ranks = 4, .pipeline = 2, .expert = 2, .bound = 1.25, .zero = 3, .device = true}}) {
    const Recipe here = m.of(recipe);
    const Engine::Memory told = Engine::measure(here, m.ranks),
                         plain = Engine::measure(with_all_to_all(m).of(recipe), m.ranks);
    EXPECT_EQ(most_bytes(train_on(here, m.ranks, 1)), measured_bytes(here, m.ranks)) << name_of(m);
    const ExpertRanks ranks = expert_ranks(here);
    const BatchSizes batch = batch_sizes(here);
    const std::int64_t window =
        dispatch_sizes(DispatchMethod::device, ranks.size, ranks.options(here.model, batch.shard_rows(), DType::f32))
            .window_bytes;
    EXPECT_GT(window, 0);
    const std::int64_t more = bytes_of(told, "communication") - bytes_of(plain, "communication");
    EXPECT_GE(more, window);
    EXPECT_LE(more, window + exchange::Window::alignment);
    EXPECT_LT(bytes_of(told, "activations"), bytes_of(plain, "activations")) << "no rows are packed";
  }
}

/// Of the ranks that share experts, all to all, in one step.
Traffic to_experts(const RunResult& run, int rank) {
  for (const GroupTraffic& g : run.traffic[static_cast<std::size_t>(rank)])
    if (g.group == "expert") return g.by_call[static_cast<std::size_t>(Call::all_to_all)];
  return {};
}

// As many calls, with the same rows: only counts differ, of each channel instead of each rank.
TEST(DeviceDispatch, TrafficIsThatOfTheAllToAll) {
  const Mixture m{.ranks = 8, .pipeline = 2, .expert = 4, .device = true};
  const Recipe recipe = sparse(Compute::bf16, Reproducibility::layout);
  const RunResult device = train_on(m.of(recipe), m.ranks, 2),
                  plain = train_on(with_all_to_all(m).of(recipe), m.ranks, 2);
  const std::int64_t micro_batches = recipe.data.global_batch_size.at(0) / m.data() / recipe.data.micro_batch_size;
  for (int rank = 0; rank < m.ranks; ++rank) {
    const Traffic a = to_experts(plain, rank), b = to_experts(device, rank);
    EXPECT_GT(a.calls, 0);
    EXPECT_EQ(b.calls, a.calls);
    const std::int64_t more = b.bytes - a.bytes, counts_of_a_plan = (m.expert - 1) * 8;
    EXPECT_GT(more, 0) << "two channels";
    EXPECT_EQ(more % (micro_batches * counts_of_a_plan), 0) << "of each layer and micro-batch";
    EXPECT_LE(more, micro_batches * counts_of_a_plan * (recipe.model.num_hidden_layers + 1));
  }
}

/// As a group of processes is.
class ApartGroup final : public DelayedGroup {
 public:
  using DelayedGroup::DelayedGroup;
  bool shares_memory() const override { return false; }
};

// A segment that both map serves ranks that say so, as it does processes.
TEST(DeviceDispatch, IsTakenWhereRanksAreOfOneHost) {
  const Recipe recipe = sparse(Compute::bf16, Reproducibility::layout);
  auto groups = make_thread_groups("world", 2);
  std::vector<std::thread> threads;
  for (auto& group : groups)
    threads.emplace_back([&] {
      Delays none;
      ApartGroup world(std::move(group), none);
      EXPECT_NO_THROW(make_groups(Mixture{.ranks = 2, .expert = 2, .device = true}.of(recipe), world));
    });
  for (std::thread& t : threads) t.join();
}

}  // namespace
}  // namespace fourmi
