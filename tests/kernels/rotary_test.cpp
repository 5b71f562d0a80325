#include "kernels/ops/rotary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <numbers>

#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using namespace test;

TEST(Rotary, FrequenciesArePowersOfTheta) {
  const auto f = rotary_frequencies(64, 10000.0);
  ASSERT_EQ(f.size(), 32u);
  EXPECT_EQ(f[0], 1.0);
  for (int j = 0; j < 32; ++j) EXPECT_NEAR(f[j] / std::pow(10000.0, -2.0 * j / 64), 1.0, 1e-14);
}

TEST(Rotary, YarnOfDeepSeekV3) {
  // Pairs that turn 32 times and once within 4096 positions: 10.47 and 22.51, hence the ramp runs from pair 10 to 23.
  const auto turning = [](double r) {
    return 64 * std::log(4096 / (r * 2 * std::numbers::pi)) / (2 * std::log(10000.0));
  };
  EXPECT_NEAR(turning(32), 10.47, 0.01);
  EXPECT_NEAR(turning(1), 22.51, 0.01);
  const Yarn yarn{.factor = 40};
  const auto plain = rotary_frequencies(64, 10000.0), f = rotary_frequencies(64, 10000.0, &yarn);
  for (int j = 0; j < 32; ++j) {
    const double ramp = std::clamp((j - 10) / 13.0, 0.0, 1.0);
    EXPECT_NEAR(f[j] / (plain[j] * (ramp / 40 + 1 - ramp)), 1.0, 1e-14) << j;
  }
  EXPECT_EQ(f[10], plain[10]);
  EXPECT_EQ(f[23], plain[23] / 40);
  EXPECT_LT(f[11], plain[11]);
  EXPECT_GT(f[22], plain[22] / 40);
}

TEST(Rotary, YarnWithEqualBounds) {  // Kimi K2: beta_fast = beta_slow = 1
  const Yarn yarn{.factor = 32, .beta_fast = 1, .beta_slow = 1};
  const auto plain = rotary_frequencies(64, 50000.0), f = rotary_frequencies(64, 50000.0, &yarn);
  const double pair = 64 * std::log(4096 / (2 * std::numbers::pi)) / (2 * std::log(50000.0));
  for (int j = 0; j < 32; ++j) {
    const double low = std::floor(pair), high = std::ceil(pair), ramp = std::clamp((j - low) / (high - low), 0.0, 1.0);
    EXPECT_NEAR(f[j] / (plain[j] * (ramp / 32 + 1 - ramp)), 1.0, 1e-14) << j;
  }
}

TEST(Rotary, YarnMscale) {
  EXPECT_NEAR(yarn_mscale(4, 1.0), 1.138629436111989, 1e-15);
  EXPECT_NEAR(yarn_mscale(40, 1.0), 1.36889, 5e-6);
  EXPECT_NEAR(std::pow(yarn_mscale(40, 0.707), 2), 1.58963, 5e-6);
  EXPECT_EQ(yarn_mscale(1, 1.0), 1.0);
  EXPECT_EQ(yarn_mscale(0.5, 1.0), 1.0);
}

TEST(Rotary, TableHoldsCosineAndSine) {
  const auto f = rotary_frequencies(8, 10000.0);
  for (DType dtype : {DType::f64, DType::f32}) {
    const Buffer table(dtype, {1000, 4, 2});
    rotary_table(f, 1.25, table);
    for (std::int64_t p = 0; p < 1000; ++p)
      for (std::int64_t j = 0; j < 4; ++j) {
        const double angle = static_cast<double>(p) * f[j];
        EXPECT_NEAR(table.get((p * 4 + j) * 2), 1.25 * std::cos(angle), 2 * unit_of(dtype));
        EXPECT_NEAR(table.get((p * 4 + j) * 2 + 1), 1.25 * std::sin(angle), 2 * unit_of(dtype));
      }
  }
}

struct Scene {
  Buffer table, positions;
};
Scene scene(DType acc, std::int64_t rows, std::int64_t dim) {
  Scene s{Buffer(acc, {64, dim / 2, 2}), Buffer(DType::i32, {rows})};
  rotary_table(rotary_frequencies(dim, 100.0), 1.0, s.table);
  s.positions.fill([](std::int64_t i) { return static_cast<double>((i * 37) % 64); });
  return s;
}

TEST(Rotary, AppliesComplexRotationsInBothLayouts) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes())
    for (RotaryLayout layout : {RotaryLayout::interleaved, RotaryLayout::half_split})
      for (bool inverse : {false, true}) {
        const std::int64_t M = 7, H = 3, W = 29, dim = 16, column = 5;
        const Scene s = scene(accumulate_dtype(dtype), M, dim);
        const Buffer before = noisy(dtype, {M, H, W}, 1), x = before;
        rotary_apply(stream_of(pool), {layout, inverse, column}, s.table, s.positions, x);
        const auto f = rotary_frequencies(dim, 100.0);
        for (std::int64_t m = 0; m < M; ++m)
          for (std::int64_t h = 0; h < H; ++h) {
            const std::int64_t base = (m * H + h) * W;
            for (std::int64_t i = 0; i < W; ++i)
              if (i < column || i >= column + dim) {
                EXPECT_EQ(x.get(base + i), before.get(base + i));
              }
            for (std::int64_t j = 0; j < dim / 2; ++j) {
              const bool pairs = layout == RotaryLayout::interleaved;
              const std::int64_t a = base + column + (pairs ? 2 * j : j), b = pairs ? a + 1 : a + dim / 2;
              const double angle = s.positions.get(m) * f[j] * (inverse ? -1 : 1);
              const auto z = std::complex<double>(before.get(a), before.get(b)) * std::polar(1.0, angle);
              EXPECT_NEAR(x.get(a), z.real(), 4 * unit_of(dtype));
              EXPECT_NEAR(x.get(b), z.imag(), 4 * unit_of(dtype));
            }
          }
      }
}

TEST(Rotary, APositionBeyondTheTableIsRefused) {
  ThreadPool pool(1);
  const Scene s = scene(DType::f32, 2, 4);
  s.positions.set(1, 64);
  if (on_card()) {  // the host does not see positions: NaN says it
    const Buffer x = noisy(DType::f32, {2, 1, 4}, 1), before = x;
    rotary_apply(stream_of(pool), {}, s.table, s.positions, x);
    for (std::int64_t i = 0; i < 4; ++i) EXPECT_TRUE(!std::isnan(x.get(i)) && std::isnan(x.get(4 + i)));
    return;
  }
  EXPECT_THROW(rotary_apply(Stream(pool), {}, s.table, s.positions, noisy(DType::f32, {2, 1, 4}, 1)), Error);
}

/// Vectors and single elements, few heads and many, more pairs of a row than threads of a block: on a card too the bits
/// are the CPU's, since nothing is summed.
TEST(Rotary, DevicesGiveEqualBits) {
  ThreadPool pool(1);
  struct Sizes {
    std::int64_t M, H, W, dim, column;
  };
  for (DType dtype : float_dtypes())
    for (const Sizes& k : {Sizes{1, 1, 576, 64, 512}, Sizes{9, 3, 48, 32, 16}, Sizes{5, 128, 192, 64, 128},
                           Sizes{300, 1, 6, 2, 3}, Sizes{2, 2, 700, 680, 8}, Sizes{0, 2, 8, 4, 0}})
      for (RotaryLayout layout : {RotaryLayout::interleaved, RotaryLayout::half_split})
        for (bool inverse : {false, true}) {
          const Scene s = scene(accumulate_dtype(dtype), k.M, k.dim);
          const Buffer x = noisy(dtype, {k.M, k.H, k.W}, 1), expected = x;
          rotary_apply(Stream(pool), {layout, inverse, k.column}, s.table, s.positions, expected);
          rotary_apply(stream_of(pool), {layout, inverse, k.column}, s.table, s.positions, x);
          EXPECT_TRUE(x == expected) << name_of(dtype) << " " << k.dim;
        }
}

TEST(Rotary, InstructionSetsAndThreadsGiveEqualBits) {
  if (on_card()) GTEST_SKIP() << "a card has neither";
  for (DType dtype : float_dtypes())
    for (RotaryLayout layout : {RotaryLayout::interleaved, RotaryLayout::half_split}) {
      const std::int64_t M = 200, H = 4, W = 48, dim = 38;
      const Scene s = scene(accumulate_dtype(dtype), M, dim);
      const Buffer x = noisy(dtype, {M, H, W}, 1), expected = x;
      ThreadPool one(1);
      rotary_apply(Stream(one, Isa::portable), {layout, false, 3}, s.table, s.positions, expected);
      for (Isa isa : machine_isas())
        for (int threads : {1, 2, 3}) {
          ThreadPool pool(threads);
          const Buffer got = x;
          rotary_apply(Stream(pool, isa), {layout, false, 3}, s.table, s.positions, got);
          EXPECT_TRUE(same_bytes(expected, got)) << name_of(isa) << threads;
        }
    }
}

/// Values of transformers 5.23 (in f32) for Llama 3.1 and for YaRN of Qwen3, ramp's ends rounded or not.
TEST(RotaryFrequencies, AreThoseOfReleasedModels) {
  const auto expect = [](const std::vector<double>& f, std::initializer_list<std::pair<std::size_t, double>> values) {
    for (auto [j, value] : values) EXPECT_NEAR(f[j], value, 1e-6 * value) << j;
  };
  expect(stretched(rotary_frequencies(128, 500000.0),
                   {.factor = 8, .original_max_position = 8192, .low_freq_factor = 1, .high_freq_factor = 4}),
         {{0, 1.0},
          {20, 0.016560440883040428},
          {28, 0.0032114461064338684},
          {29, 0.0021665706299245358},
          {32, 0.0005248460220173001},
          {34, 0.0001785077911335975},
          {35, 9.556212171446532e-05},
          {40, 3.428102354519069e-05},
          {63, 3.068925877869333e-07}});
  Yarn yarn{.factor = 4, .original_max_position = 32768};
  expect(rotary_frequencies(128, 1e6, &yarn), {{0, 1.0},
                                               {20, 0.01333521492779255},
                                               {23, 0.006978305988013744},
                                               {24, 0.005375321488827467},
                                               {30, 0.0010643609566614032},
                                               {39, 6.490394298452884e-05},
                                               {40, 4.4456985051510856e-05},
                                               {63, 3.102344408034696e-07}});
  yarn.truncate = false;
  expect(rotary_frequencies(128, 1e6, &yarn), {{23, 0.006978305988013744},
                                               {24, 0.005517270416021347},
                                               {30, 0.0010792376706376672},
                                               {39, 6.187807593960315e-05},
                                               {40, 4.4456985051510856e-05}});
}

}  // namespace
}  // namespace fourmi
