// What is not finite is found where it is: by tensor, layer, index and rank; and the state stays what it was.
#include "framework/train/non_finite.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <thread>

#include "framework/train/engine.h"
#include "tests/end_to_end/spoil.h"
#include "tests/train/small_recipe.h"

namespace fourmi {
namespace {

template <class T>
void expect_found(DType dtype, T nan, T infinity, T largest) {
  ThreadPool pool(2);
  const Stream stream(pool);
  std::mt19937 random(5);
  std::vector<T> x(200'000, largest);
  const Tensor t(x.data(), dtype, {500, 400});
  EXPECT_FALSE(first_non_finite(stream, t)) << "the largest number is finite";
  for (int i = 0; i < 50; ++i) {
    const std::size_t first = random() % x.size(), later = first + random() % (x.size() - first);
    const T bad = i % 2 == 0 ? nan : infinity;
    x[later] = nan;
    x[first] = bad;
    const auto found = first_non_finite(stream, t);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->index, static_cast<std::int64_t>(first));
    EXPECT_EQ(std::isnan(found->value), i % 2 == 0);
    if (i % 2 == 1) {
      EXPECT_LT(found->value, 0);
    }
    x[later] = x[first] = largest;
  }
}

TEST(FirstNonFinite, IsTheFirstOfAnyFloatType) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  expect_found<double>(DType::f64, -nan, -infinity, -std::numeric_limits<double>::max());
  expect_found<float>(DType::f32, static_cast<float>(nan), -static_cast<float>(infinity),
                      std::numeric_limits<float>::max());
  expect_found<bfloat16>(DType::bf16, bfloat16(static_cast<float>(nan)), bfloat16(-static_cast<float>(infinity)),
                         bfloat16::from_bits(0xff7f));
}

TEST(FirstNonFinite, AnIndexIsShownByDim) {
  EXPECT_EQ(index_text({32, 16}, 37), "[2, 5]");
  EXPECT_EQ(index_text({7}, 3), "[3]");
  EXPECT_EQ(index_text({2, 3, 4}, 23), "[1, 2, 3]");
}

struct Told {
  StepResult result;
  bool state_kept = false;
};

/// Two good steps, and a third in which rank `bad_rank` is spoiled on entering `phase`; what each rank was told.
std::vector<Told> spoiled_step(int num_ranks, int bad_rank, const std::string& how, Phase phase, Compute compute,
                               Reproducibility mode) {
  const Recipe recipe = small_recipe(compute, mode);
  auto groups = make_thread_groups("data", num_ranks);
  std::vector<Told> told(static_cast<std::size_t>(num_ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank)
    threads.emplace_back([&, rank] {
      ThreadPool pool(1);
      const Stream stream(pool);
      const std::vector<LoadedSource> sources = load_sources(recipe.data.train, "data.train");
      const Loader loader(recipe.data, sources, recipe.run.seed, recipe.model.vocab_size);
      const RankGroups ranks(*groups[static_cast<std::size_t>(rank)]);
      Engine engine(recipe, ranks, stream);
      testing::Spoiler spoiler;
      if (rank == bad_rank) spoiler.set_engine(engine);
      engine.initialise();
      Position position = loader.start();
      double tokens = 0;
      StepPlan plan;
      for (int step = 1; step <= 3; ++step) {
        loader.plan_step(position, plan);
        const auto digests = [&] {
          std::vector<uint128> all;
          for (const Box& b : engine.boxes()) {
            std::vector<std::byte> bytes(static_cast<const std::byte*>(b.data.data),
                                         static_cast<const std::byte*>(b.data.data) + b.data.bytes());
            uint128 sum = 0;
            for (std::size_t i = 0; i < bytes.size(); ++i)
              sum = sum * 1099511628211u + static_cast<unsigned char>(bytes[i]);
            all.push_back(sum);
          }
          return all;
        };
        const auto before = digests();
        Told& mine = told[static_cast<std::size_t>(rank)];
        bool done = step < 3;
        const auto observer = [&](Phase entered, std::int64_t at) {
          spoiler.enter(at);
          if (!done && entered == phase) done = true, spoiler.spoil(how);
        };
        mine.result =
            engine.step(loader, plan, step, tokens, observer, [](const StepResult& r) { return r.non_finite.empty(); });
        mine.state_kept = digests() == before;
        tokens += static_cast<double>(plan.num_targets);
        position = plan.next;
      }
    });
  for (std::thread& t : threads) t.join();
  return told;
}

void expect_told(const std::vector<Told>& told, const std::string& words, bool state_is_bad) {
  for (const Told& t : told) {
    EXPECT_NE(t.result.non_finite.find(words), std::string::npos) << t.result.non_finite;
    EXPECT_EQ(t.result.non_finite, told[0].result.non_finite) << "all ranks are told the same";
    EXPECT_FALSE(t.result.updated);
    EXPECT_TRUE(t.state_kept);
    EXPECT_EQ(t.result.state_is_bad, state_is_bad);
    EXPECT_FALSE(std::isfinite(t.result.loss) && std::isfinite(t.result.grad_norm));
  }
}

class NonFiniteStep : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, NonFiniteStep, ::testing::Values(1, 4));

TEST_P(NonFiniteStep, IsFoundInItsTensorOnItsRank) {
  const int bad = GetParam() / 2;
  const std::string on = fmt::format(" on rank {}", bad);
  for (const auto& [compute, mode] : {std::pair{Compute::fp32, Reproducibility::run},
                                      {Compute::bf16, Reproducibility::run},
                                      {Compute::bf16, Reproducibility::layout}}) {
    SCOPED_TRACE(fmt::format("compute {}, mode {}", static_cast<int>(compute), static_cast<int>(mode)));
    const auto spoil = [&, compute = compute, mode = mode](const char* how, Phase phase) {
      return spoiled_step(GetParam(), bad, how, phase, compute, mode);
    };
    expect_told(spoil("nan_weight", Phase::forward),
                fmt::format("the weight of {} is NaN at [2, 5]{}", testing::spoiled_parameter, on), true);
    expect_told(spoil("inf_activation", Phase::forward),
                fmt::format("the output of model.layers.1 is inf at element 37{}, micro-batch 0", on), false);
    if (mode == Reproducibility::run) {  // sums of mode layout are integers
      expect_told(spoil("nan_gradient", Phase::optimizer),
                  fmt::format("the gradient of {} is NaN at [2, 5]{}", testing::spoiled_parameter, on), false);
    }
  }
}

// A fault that is gone when it is looked for: its trace in the gradients tells the rank, or it is said that it passed.
TEST_P(NonFiniteStep, AFaultThatPassedIsNotBlamedOnTheModel) {
  const int bad = GetParam() - 1;
  expect_told(spoiled_step(GetParam(), bad, "inf_activation_once", Phase::forward, Compute::bf16, Reproducibility::run),
              fmt::format("on rank {}", bad), false);
}

TEST(RequireFinite, NamesTensorAndElementAndPassesAFiniteState) {
  ThreadPool pool(1);
  const Stream stream(pool);
  auto group = make_self_group("self");
  std::vector<float> x(64, 1.0f);
  const Box box{"/optimizer/exp_avg/a.weight", "", {16, 8}, 8, Tensor(x.data(), DType::f32, {8, 8})};
  EXPECT_NO_THROW(require_finite(stream, *group, std::span(&box, 1), 12));
  x[19] = std::numeric_limits<float>::infinity();
  try {
    require_finite(stream, *group, std::span(&box, 1), 12);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.status(), ExitStatus::guard);
    EXPECT_NE(std::string(e.what()).find("/optimizer/exp_avg/a.weight is inf at [10, 3]"), std::string::npos)
        << e.what();
  }
  const Box columns{"/optimizer/exp_avg/b.weight", "", {16, 32}, 4, Tensor(x.data(), DType::f32, {8, 8}), 16};
  try {
    require_finite(stream, *group, std::span(&columns, 1), 12);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("b.weight is inf at [6, 19]"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace fourmi
