// Gradients of weights on Hopper's tensor cores against the decoded operands in double.
#include "kernels/cuda/hopper/fp8_gemm.h"
#include "tests/hopper/card.h"
#include "tests/hopper/test_data.h"

namespace fourmi {
namespace {

using cuda::hopper::fits;
using cuda::hopper::Fp8Gradient;
using test::hopper::Memory;
using test::hopper::Random;

/// Rows that sum together lie in groups of 128 places; what is behind a run's last row holds zeros. Places and scales
/// of no group are poison.
struct Operand {
  std::int64_t channels, S;
  std::vector<std::uint8_t> elements;  // [channels, S]
  std::vector<float> scales;           // [S / 128, channels]

  Operand(Random& random, std::int64_t channels_, std::int64_t S_, const std::vector<std::int64_t>& place)
      : channels(channels_),
        S(S_),
        elements(static_cast<std::size_t>(channels * S), 0x7f),
        scales(static_cast<std::size_t>(channels * S / 128), std::numeric_limits<float>::quiet_NaN()) {
    for (const std::int64_t p : place)
      for (std::int64_t c = 0; c < channels; ++c) {
        float& s = scales[static_cast<std::size_t>(p / 128 * channels + c)];
        const auto group = elements.begin() + c * S + p / 128 * 128;
        if (std::isnan(s)) std::fill(group, group + 128, std::uint8_t{0}), s = test::hopper::random_scale(random);
        elements[static_cast<std::size_t>(c * S + p)] = test::hopper::random_element(random);
      }
  }
  double value(std::int64_t p, std::int64_t c) const {
    return test::hopper::e4m3(elements[static_cast<std::size_t>(c * S + p)]) *
           static_cast<double>(scales[static_cast<std::size_t>(p / 128 * channels + c)]);
  }
};

struct Case {
  std::int64_t M, N, K;
  std::vector<std::int32_t> offsets{};
  int multiprocessors = 3;
  std::int64_t more_places = 0;
};

void check(const Case& c, std::uint64_t seed) {
  SCOPED_TRACE(fmt::format("{} x {} over {} rows, {} groups, seed {}", c.N, c.K, c.M, c.offsets.size(), seed));
  test::shuffle_card(seed);
  Random random(seed);
  const std::vector<std::int32_t> all{0, static_cast<std::int32_t>(c.M)};
  const auto& offsets = c.offsets.empty() ? all : c.offsets;
  const auto groups = static_cast<std::int64_t>(offsets.size()) - 1;
  std::vector<std::int64_t> place;  // of the rows that are in a group
  std::vector<std::size_t> first{0};
  std::int64_t begin = 0;
  for (std::size_t g = 0; g + 1 < offsets.size(); ++g) {
    for (std::int64_t i = 0; i < offsets[g + 1] - offsets[g]; ++i) place.push_back(begin + i);
    begin += (offsets[g + 1] - offsets[g] + 127) / 128 * 128;
    first.push_back(place.size());
  }
  const std::int64_t S = std::max<std::int64_t>(begin, (c.M + 127) / 128 * 128) + c.more_places;
  const Operand dy(random, c.N, S, place), x(random, c.K, S, place);
  std::vector<float> before(static_cast<std::size_t>(groups * c.N * c.K));
  for (float& b : before) b = static_cast<float>(static_cast<int>(random() % 2000) - 1000) * 100.0F;
  const Memory dy_memory(dy.elements), x_memory(x.elements), dy_scales(dy.scales), x_scales(x.scales), dw(before),
      offsets_memory(offsets);
  Fp8Gradient p;
  p.dy = dy_memory.get(), p.x = x_memory.get(), p.dw = static_cast<float*>(dw.get());
  p.dy_scales = static_cast<const float*>(dy_scales.get()), p.x_scales = static_cast<const float*>(x_scales.get());
  p.M = c.M, p.N = c.N, p.K = c.K, p.S = S, p.groups = groups;
  if (!c.offsets.empty()) p.offsets = static_cast<const std::int32_t*>(offsets_memory.get());
  ASSERT_TRUE(fits(p));
  fp8_gradient(test::hopper::stream(c.multiprocessors), p);
  ASSERT_EQ(test::copies_left_on_card(), 0u);
  const auto got = dw.values<float>();

  for (std::int64_t g = 0; g < groups; ++g) {
    const std::size_t from = first[static_cast<std::size_t>(g)], to = first[static_cast<std::size_t>(g) + 1];
    std::vector<double> wide_x;
    for (std::int64_t k = 0; k < c.K; ++k)
      for (std::size_t m = from; m < to; ++m) wide_x.push_back(x.value(place[m], k));
    std::vector<double> wide_dy(to - from);
    for (std::int64_t n = 0; n < c.N; ++n) {
      for (std::size_t m = from; m < to; ++m) wide_dy[m - from] = dy.value(place[m], n);
      for (std::int64_t k = 0; k < c.K; ++k) {
        const auto at = static_cast<std::size_t>((g * c.N + n) * c.K + k);
        double sum = static_cast<double>(before[at]), size = std::abs(sum);
        for (std::size_t m = 0; m < to - from; ++m) {
          const double term = wide_dy[m] * wide_x[static_cast<std::size_t>(k) * (to - from) + m];
          sum += term, size += std::abs(term);
        }
        ASSERT_NEAR(static_cast<double>(got[at]), sum, (1e-6 + test::hopper_cut) * size)
            << "group " << g << " row " << n << " column " << k;
      }
    }
  }
}

TEST(HopperWgrad, OneTile) {
  check({128, 128, 128}, 1);
  check({100, 64, 128}, 2);
  check({1, 128, 256}, 3);
}

TEST(HopperWgrad, StepsGoRoundTheRing) {
  check({128 * 9 + 5, 128, 128}, 1);
  check({128 * 11, 64, 256, {}, 1}, 2);  // wide
}

TEST(HopperWgrad, BlocksDoManyTiles) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    check({300, 300, 384}, seed);
    check({257, 256, 640, {}, 1, 256}, seed);
  }
}

TEST(HopperWgrad, RaggedSizes) {
  check({130, 4, 12}, 1);
  check({200, 132, 140}, 2);
  check({70, 260, 396, {}, 1}, 3);
}

TEST(HopperWgrad, GroupsOfAnySize) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    check({700, 128, 256, {0, 0, 5, 5, 135, 391, 700, 700}, 3, 896}, seed);
    check({300, 64, 132, {3, 131, 132, 132, 290}, 1, 512}, seed);
  }
  check({20, 128, 128, {0, 0, 0}}, 4);  // no rows at all
}

TEST(HopperWgrad, WhatDoesNotFitIsToldBefore) {
  alignas(16) std::byte memory[32] = {};
  Fp8Gradient g;
  g.dy = g.x = memory, g.dw = reinterpret_cast<float*>(memory), g.dy_scales = g.x_scales = g.dw;
  g.M = 5, g.N = 4, g.K = 8, g.S = 128;
  EXPECT_TRUE(fits(g));
  const auto changed = [&g](auto change) {
    Fp8Gradient other = g;
    change(other);
    return fits(other);
  };
  EXPECT_TRUE(changed([](Fp8Gradient& o) { o.M = 0; }));
  EXPECT_FALSE(changed([](Fp8Gradient& o) { o.N = 6; }));
  EXPECT_FALSE(changed([](Fp8Gradient& o) { o.K = 0; }));
  EXPECT_FALSE(changed([](Fp8Gradient& o) { o.S = 100; }));
  EXPECT_FALSE(changed([](Fp8Gradient& o) { o.M = 129; }));
  EXPECT_FALSE(changed([](Fp8Gradient& o) { o.groups = 2; }));
  EXPECT_FALSE(changed([&](Fp8Gradient& o) { o.dy = memory + 8; }));
}

}  // namespace
}  // namespace fourmi
