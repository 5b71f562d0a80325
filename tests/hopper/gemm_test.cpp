// Products of e4m3 operands on Hopper's tensor cores against the decoded operands in double.
#include "kernels/cuda/hopper/fp8_gemm.h"
#include "tests/hopper/card.h"
#include "tests/hopper/test_data.h"

namespace fourmi {
namespace {

using cuda::hopper::fits;
using cuda::hopper::Fp8Product;
using test::hopper::Memory;
using test::hopper::Random;
using test::hopper::Scaled;

struct Case {
  std::int64_t M, N, K;
  DType dtype = DType::bf16;
  bool with_residual = false;
  std::vector<std::int32_t> offsets{};
  int multiprocessors = 3;
  bool in_place = false;
};

template <class Y>
void check(const Case& c, std::uint64_t seed) {
  test::shuffle_card(seed);
  Random random(seed);
  const auto groups =
      static_cast<std::int64_t>(std::max<std::size_t>(1, c.offsets.size()) - (c.offsets.empty() ? 0 : 1));
  const Scaled x(random, DType::e4m3_rows, 1, c.M, c.K), w(random, DType::e4m3_panels, groups, c.N, c.K);
  std::vector<Y> residual(static_cast<std::size_t>(c.with_residual ? c.M * c.N : 0));
  for (Y& r : residual) r = Y(static_cast<float>(static_cast<int>(random() % 2000) - 1000) * 40.0F);
  const Memory x_memory(x.bytes), w_memory(w.bytes), r_memory(residual), offsets_memory(c.offsets),
      y_memory(static_cast<std::size_t>(c.M * c.N) * sizeof(Y));
  Fp8Product p;
  p.x = x_memory.get(), p.w = w_memory.get(), p.dtype = c.dtype;
  p.y = c.in_place ? r_memory.get() : y_memory.get();
  p.residual = c.with_residual ? r_memory.get() : nullptr;
  p.M = c.M, p.N = c.N, p.K = c.K, p.groups = groups;
  p.offsets = c.offsets.empty() ? nullptr : static_cast<const std::int32_t*>(offsets_memory.get());
  ASSERT_TRUE(fits(p));
  fp8_product(test::hopper::stream(c.multiprocessors), p);
  ASSERT_EQ(test::copies_left_on_card(), 0u);
  const auto y = (c.in_place ? r_memory : y_memory).template values<Y>();

  std::vector<std::int64_t> group(static_cast<std::size_t>(c.M), c.offsets.empty() ? 0 : -1);
  for (std::size_t e = 0; e + 1 < c.offsets.size(); ++e)
    for (std::int32_t r = c.offsets[e]; r < c.offsets[e + 1]; ++r)
      group[static_cast<std::size_t>(r)] = static_cast<std::int64_t>(e);
  const double rounding = 1e-5 + (c.dtype == DType::bf16 ? 0x1p-8 : 0);
  std::vector<double> wide_x(static_cast<std::size_t>(c.K)), wide_w(static_cast<std::size_t>(groups * c.N * c.K));
  for (std::int64_t i = 0; i < groups * c.N * c.K; ++i)
    wide_w[static_cast<std::size_t>(i)] = w.value(i / (c.N * c.K), i / c.K % c.N, i % c.K);
  for (std::int64_t m = 0; m < c.M; ++m) {
    for (std::int64_t k = 0; k < c.K; ++k) wide_x[static_cast<std::size_t>(k)] = x.value(0, m, k);
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
      const double* const row = &wide_w[static_cast<std::size_t>((e * c.N + n) * c.K)];
      for (std::size_t k = 0; k < static_cast<std::size_t>(c.K); ++k)
        sum += wide_x[k] * row[k], size += std::abs(wide_x[k] * row[k]);
      ASSERT_NEAR(static_cast<double>(static_cast<float>(y[at])), sum,
                  rounding * std::abs(sum) + (1e-6 + test::hopper_cut) * size)
          << "row " << m << " column " << n << " seed " << seed;
    }
  }
}

void check(const Case& c, std::uint64_t seed) {
  SCOPED_TRACE(fmt::format("{} x {} x {} {}, {} groups, residual {}", c.M, c.N, c.K, name_of(c.dtype), c.offsets.size(),
                           c.with_residual));
  c.dtype == DType::bf16 ? check<bfloat16>(c, seed) : check<float>(c, seed);
}

TEST(HopperGemm, OneTile) {
  check({128, 128, 128, DType::f32}, 1);
  check({128, 128, 128}, 2);
  check({1, 128, 128}, 3);
}

TEST(HopperGemm, StepsGoRoundTheRing) {
  check({64, 128, 128 * 9, DType::f32}, 1);   // narrow
  check({64, 256, 128 * 11, DType::f32}, 2);  // wide
}

TEST(HopperGemm, BlocksDoManyTiles) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    check({300, 384, 384}, seed);
    check({257, 640, 256, DType::f32, false, {}, 1}, seed);
  }
}

TEST(HopperGemm, RaggedSizes) {
  check({65, 64, 128}, 1);
  check({130, 16, 256, DType::f32}, 2);
  check({70, 144, 400}, 3);                     // a step that is cut, a panel of 16 rows
  check({200, 320, 16, DType::f32, true}, 4);   // one short step, a panel of 64
  check({63, 272, 656, DType::bf16, true}, 5);  // six steps: scales of four and of two
}

TEST(HopperGemm, ResidualIsAddedBeforeTheRounding) {
  check({140, 256, 128, DType::bf16, true}, 1);
  check({140, 128, 128, DType::f32, true}, 2);
  check({140, 256, 128, DType::bf16, true, {}, 3, true}, 3);  // in place
  check({140, 128, 128, DType::f32, true, {}, 3, true}, 4);
}

TEST(HopperGemm, GroupsOfAnySize) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    check({330, 256, 256, DType::bf16, false, {0, 0, 5, 5, 135, 264, 264, 330, 330}}, seed);
    check({300, 128, 128, DType::f32, false, {0, 128, 129, 129, 257}, 1}, seed);  // rows from 257 on are left alone
    check({100, 144, 144, DType::bf16, true, {3, 40, 40, 90}}, seed);
  }
  check({20, 128, 128, DType::bf16, false, {0, 0, 0}}, 4);  // no rows at all
}

TEST(HopperGemm, NanScalesReachTheirOutputsOnly) {
  Random random(7);
  Scaled x(random, DType::e4m3_rows, 1, 8, 256), w(random, DType::e4m3_panels, 1, 256, 256);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(&x.bytes[x.scale_at(0, 3, 128)], &nan, 4);
  std::memcpy(&w.bytes[w.scale_at(0, 128, 0)], &nan, 4);
  const Memory x_memory(x.bytes), w_memory(w.bytes), y_memory(8 * 256 * 4);
  Fp8Product p;
  p.x = x_memory.get(), p.w = w_memory.get(), p.y = y_memory.get(), p.dtype = DType::f32;
  p.M = 8, p.N = 256, p.K = 256;
  fp8_product(test::hopper::stream(), p);
  const auto y = y_memory.values<float>();
  for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(std::isnan(y[i]), i / 256 == 3 || i % 256 >= 128) << i;
}

TEST(HopperGemm, WhatDoesNotFitIsToldBefore) {
  alignas(16) std::byte memory[32] = {};
  Fp8Product p;
  p.x = p.w = memory, p.y = memory;
  p.M = 5, p.N = 16, p.K = 48;
  EXPECT_TRUE(fits(p));
  const auto changed = [&p](auto change) {
    Fp8Product other = p;
    change(other);
    return fits(other);
  };
  EXPECT_TRUE(changed([](Fp8Product& o) { o.M = 0; }));
  EXPECT_FALSE(changed([](Fp8Product& o) { o.N = 8; }));
  EXPECT_FALSE(changed([](Fp8Product& o) { o.K = 0; }));
  EXPECT_FALSE(changed([](Fp8Product& o) { o.K = 40; }));
  EXPECT_FALSE(changed([](Fp8Product& o) { o.groups = 2; }));  // without offsets
  EXPECT_FALSE(changed([](Fp8Product& o) { o.dtype = DType::f64; }));
  EXPECT_FALSE(changed([&](Fp8Product& o) { o.x = memory + 8; }));
  EXPECT_FALSE(changed([&](Fp8Product& o) { o.y = memory + 2; }));
  EXPECT_FALSE(changed([&](Fp8Product& o) { o.residual = memory + 4; }));
}

}  // namespace
}  // namespace fourmi
