// Products of bf16 operands on Hopper's tensor cores against the same in double.
#include "kernels/cuda/hopper/bf16_gemm.h"
#include "tests/hopper/card.h"
#include "tests/hopper/test_data.h"

namespace fourmi {
namespace {

using cuda::hopper::Bf16Gradient;
using cuda::hopper::Bf16Product;
using cuda::hopper::fits;
using test::hopper::Memory;
using test::hopper::Random;

using Matrix = std::vector<bfloat16>;

Matrix random_matrix(Random& random, std::int64_t count) {
  Matrix m(static_cast<std::size_t>(count));
  for (bfloat16& v : m) v = bfloat16(static_cast<float>(static_cast<int>(random() % 512) - 256) / 64);
  return m;
}
double wide(bfloat16 v) {
  return static_cast<double>(static_cast<float>(v));
}

/// The rows' groups; -1: of none.
std::vector<std::int64_t> group_of_rows(std::int64_t rows, const std::vector<std::int32_t>& offsets) {
  std::vector<std::int64_t> group(static_cast<std::size_t>(rows), offsets.empty() ? 0 : -1);
  for (std::size_t e = 0; e + 1 < offsets.size(); ++e)
    for (std::int32_t r = offsets[e]; r < offsets[e + 1]; ++r)
      group[static_cast<std::size_t>(r)] = static_cast<std::int64_t>(e);
  return group;
}
/// What is in nobody's rows may be anything.
void poison_others(Matrix& m, std::int64_t width, const std::vector<std::int64_t>& group) {
  for (std::size_t i = 0; i < m.size(); ++i)
    if (group[i / static_cast<std::size_t>(width)] < 0) m[i] = bfloat16::from_bits(i % 2 == 0 ? 0x7fc0 : 0xff80);
}
std::int64_t groups_of(const std::vector<std::int32_t>& offsets) {
  return offsets.empty() ? 1 : std::ssize(offsets) - 1;
}

struct Case {
  std::int64_t M, N, K;
  DType dtype = DType::bf16;
  bool turned = false, with_residual = false;
  std::vector<std::int32_t> offsets{};
  int multiprocessors = 3;
  bool in_place = false;
};

template <class Y>
void check(const Case& c, std::uint64_t seed) {
  test::shuffle_card(seed);
  Random random(seed);
  const std::int64_t groups = groups_of(c.offsets);
  const auto group = group_of_rows(c.M, c.offsets);
  Matrix x = random_matrix(random, c.M * c.K);
  const Matrix w = random_matrix(random, groups * c.N * c.K);
  poison_others(x, c.K, group);
  std::vector<Y> residual(static_cast<std::size_t>(c.with_residual ? c.M * c.N : 0));
  for (Y& r : residual) r = Y(static_cast<float>(static_cast<int>(random() % 2000) - 1000) / 4);
  const Memory x_memory(x), w_memory(w), r_memory(residual), offsets_memory(c.offsets),
      y_memory(static_cast<std::size_t>(c.M * c.N) * sizeof(Y));
  Bf16Product p;
  p.x = x_memory.get(), p.w = w_memory.get(), p.dtype = c.dtype, p.turned = c.turned;
  p.y = c.in_place ? r_memory.get() : y_memory.get();
  p.residual = c.with_residual ? r_memory.get() : nullptr;
  p.M = c.M, p.N = c.N, p.K = c.K, p.groups = groups;
  p.offsets = c.offsets.empty() ? nullptr : static_cast<const std::int32_t*>(offsets_memory.get());
  ASSERT_TRUE(fits(p));
  bf16_product(test::hopper::stream(c.multiprocessors), p);
  ASSERT_EQ(test::copies_left_on_card(), 0u);
  const auto y = (c.in_place ? r_memory : y_memory).template values<Y>();
  for (std::int64_t m = 0; m < c.M; ++m)
    for (std::int64_t n = 0; n < c.N; ++n) {
      const auto at = static_cast<std::size_t>(m * c.N + n);
      const std::int64_t e = group[static_cast<std::size_t>(m)];
      if (e < 0) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, &y[at], sizeof(Y));
        ASSERT_EQ(bits, sizeof(Y) == 2 ? 0xffffu : 0xffffffffu) << "row " << m << " is of no group";
        continue;
      }
      double sum = c.with_residual ? static_cast<double>(static_cast<float>(residual[at])) : 0, size = std::abs(sum);
      for (std::int64_t k = 0; k < c.K; ++k) {
        const auto of_w = static_cast<std::size_t>(e * c.N * c.K + (c.turned ? k * c.N + n : n * c.K + k));
        const double v = wide(x[static_cast<std::size_t>(m * c.K + k)]) * wide(w[of_w]);
        sum += v, size += std::abs(v);
      }
      ASSERT_NEAR(static_cast<double>(static_cast<float>(y[at])), sum,
                  (c.dtype == DType::bf16 ? 0x1p-8 : 0) * std::abs(sum) + 2e-6 * size)
          << "row " << m << " column " << n << " seed " << seed;
    }
}

void check(Case c, std::uint64_t seed) {
  for (const bool turned : {false, true}) {
    c.turned = turned;
    SCOPED_TRACE(fmt::format("{} x {} x {} {}, {} offsets, residual {}, turned {}", c.M, c.N, c.K, name_of(c.dtype),
                             c.offsets.size(), c.with_residual, c.turned));
    c.dtype == DType::bf16 ? check<bfloat16>(c, seed) : check<float>(c, seed);
  }
}

TEST(HopperBf16, OneTile) {
  check({128, 128, 64, DType::f32}, 1);
  check({128, 256, 128}, 2);
  check({1, 128, 64}, 3);
}

TEST(HopperBf16, StepsGoRoundTheRing) {
  check({64, 128, 64 * 9, DType::f32}, 1);   // narrow
  check({64, 256, 64 * 11, DType::f32}, 2);  // wide
}

TEST(HopperBf16, BlocksDoManyTiles) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    check({300, 384, 192}, seed);
    check({257, 640, 128, DType::f32, false, false, {}, 1}, seed);  // tiles of two panels and of one
  }
}

TEST(HopperBf16, RaggedSizes) {
  check({65, 64, 64}, 1);
  check({130, 8, 136, DType::f32}, 2);
  check({70, 136, 200}, 3);                            // sums that end in a step: 8 of 64
  check({200, 328, 8, DType::f32, false, true}, 4);    // one short step
  check({63, 272, 376, DType::bf16, false, true}, 5);  // 56 of 64
}

TEST(HopperBf16, ResidualIsAddedBeforeTheRounding) {
  check({140, 256, 64, DType::bf16, false, true}, 1);
  check({140, 128, 64, DType::f32, false, true}, 2);
  check({140, 256, 64, DType::bf16, false, true, {}, 3, true}, 3);  // in place
  check({140, 128, 64, DType::f32, false, true, {}, 3, true}, 4);
}

TEST(HopperBf16, GroupsOfAnySize) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    check({330, 256, 128, DType::bf16, false, false, {0, 0, 5, 5, 135, 264, 264, 330, 330}}, seed);
    check({300, 128, 64, DType::f32, false, false, {0, 128, 129, 129, 257}, 1}, seed);  // the last rows are nobody's
    check({100, 144, 72, DType::bf16, false, true, {3, 40, 40, 90}}, seed);
  }
  check({20, 128, 64, DType::bf16, false, false, {0, 0, 0}}, 4);  // no rows at all
}

void check_gradient(const Case& c, std::uint64_t seed) {
  SCOPED_TRACE(fmt::format("{} x {} over {} rows, {} offsets, seed {}", c.N, c.K, c.M, c.offsets.size(), seed));
  test::shuffle_card(seed);
  Random random(seed);
  const std::int64_t groups = groups_of(c.offsets);
  const auto group = group_of_rows(c.M, c.offsets);
  Matrix dy = random_matrix(random, c.M * c.N), x = random_matrix(random, c.M * c.K);
  poison_others(dy, c.N, group), poison_others(x, c.K, group);
  std::vector<float> before(static_cast<std::size_t>(groups * c.N * c.K));
  for (float& b : before) b = static_cast<float>(static_cast<int>(random() % 2000) - 1000) / 4;
  const Memory dy_memory(dy), x_memory(x), dw(before), offsets_memory(c.offsets);
  Bf16Gradient p;
  p.dy = dy_memory.get(), p.x = x_memory.get(), p.dw = static_cast<float*>(dw.get());
  p.M = c.M, p.N = c.N, p.K = c.K, p.groups = groups;
  if (!c.offsets.empty()) p.offsets = static_cast<const std::int32_t*>(offsets_memory.get());
  ASSERT_TRUE(fits(p));
  bf16_gradient(test::hopper::stream(c.multiprocessors), p);
  ASSERT_EQ(test::copies_left_on_card(), 0u);
  const auto got = dw.values<float>();
  std::vector<double> sum(before.begin(), before.end()), size(before.size());
  for (std::size_t i = 0; i < sum.size(); ++i) size[i] = std::abs(sum[i]);
  for (std::int64_t m = 0; m < c.M; ++m) {
    const std::int64_t g = group[static_cast<std::size_t>(m)];
    for (std::int64_t n = 0; n < c.N && g >= 0; ++n)
      for (std::int64_t k = 0; k < c.K; ++k) {
        const double v =
            wide(dy[static_cast<std::size_t>(m * c.N + n)]) * wide(x[static_cast<std::size_t>(m * c.K + k)]);
        const auto at = static_cast<std::size_t>((g * c.N + n) * c.K + k);
        sum[at] += v, size[at] += std::abs(v);
      }
  }
  for (std::size_t i = 0; i < sum.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), sum[i], 2e-6 * size[i])
        << "row " << i / static_cast<std::size_t>(c.K) << " column " << i % static_cast<std::size_t>(c.K);
}

TEST(HopperBf16, GradientsOfOneTile) {
  check_gradient({64, 128, 128}, 1);
  check_gradient({100, 64, 128}, 2);
  check_gradient({1, 128, 256}, 3);
}

TEST(HopperBf16, GradientsOverManyRows) {
  check_gradient({64 * 9 + 5, 128, 128}, 1);
  check_gradient({64 * 11, 64, 256, DType::f32, false, false, {}, 1}, 2);  // wide
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    check_gradient({150, 296, 384}, seed);
    check_gradient({129, 256, 640, DType::f32, false, false, {}, 1}, seed);
  }
}

TEST(HopperBf16, GradientsOfRaggedSizes) {
  check_gradient({130, 8, 16}, 1);
  check_gradient({79, 136, 136}, 2);
  check_gradient({49, 264, 392, DType::f32, false, false, {}, 1}, 3);
}

/// Neighbours' rows and those of nobody, not numbers, lie in the same steps.
TEST(HopperBf16, GradientsOfGroupsOfAnySize) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    check_gradient({460, 128, 256, DType::f32, false, false, {0, 0, 5, 5, 69, 197, 450, 450}}, seed);
    check_gradient({300, 64, 136, DType::f32, false, false, {3, 67, 68, 68, 290}, 1}, seed);
  }
  check_gradient({20, 128, 128, DType::f32, false, false, {0, 0, 0}}, 4);  // no rows at all
}

TEST(HopperBf16, WhatDoesNotFitIsToldBefore) {
  alignas(16) std::byte memory[32] = {};
  Bf16Product p;
  p.x = p.w = memory, p.y = memory;
  p.M = 5, p.N = 8, p.K = 24;
  Bf16Gradient g;
  g.dy = g.x = memory, g.dw = reinterpret_cast<float*>(memory), g.M = 5, g.N = 8, g.K = 24;
  EXPECT_TRUE(fits(p) && fits(g));
  const auto refused = [](auto good, auto change) {
    change(good);
    return !fits(good);
  };
  EXPECT_FALSE(refused(p, [](auto& o) { o.M = 0; }));
  EXPECT_TRUE(refused(p, [](auto& o) { o.N = 4; }));
  EXPECT_TRUE(refused(p, [](auto& o) { o.K = 0; }));
  EXPECT_TRUE(refused(p, [](auto& o) { o.K = 20; }));
  EXPECT_TRUE(refused(p, [](auto& o) { o.groups = 2; }));  // without offsets
  EXPECT_TRUE(refused(p, [](auto& o) { o.dtype = DType::f64; }));
  EXPECT_TRUE(refused(p, [&](auto& o) { o.x = memory + 8; }));
  EXPECT_TRUE(refused(p, [&](auto& o) { o.residual = memory + 4; }));
  EXPECT_TRUE(refused(g, [](auto& o) { o.N = 12; }));
  EXPECT_TRUE(refused(g, [](auto& o) { o.groups = 2; }));
  EXPECT_TRUE(refused(g, [&](auto& o) { o.dy = memory + 8; }));
}

}  // namespace
}  // namespace fourmi
