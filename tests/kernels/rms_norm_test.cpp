#include "kernels/ops/rms_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/numerics/fixed128.h"
#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

using namespace test;

/// M rows of A columns of which D from column c are normalised; y rows are wider by other columns.
struct Case {
  std::int64_t M, A, c, D, B, y_c;
};
const Case cases[] = {{5, 33, 0, 33, 33, 0}, {3, 60, 7, 48, 50, 2}, {4, 17, 16, 1, 1, 0}, {1, 130, 0, 130, 130, 0}};

double exact(const Buffer& x, const Buffer& w, const Case& k, double epsilon, std::int64_t row, std::int64_t d) {
  double sum = 0;
  for (std::int64_t i = 0; i < k.D; ++i) sum += std::pow(x.get(row * k.A + k.c + i), 2);
  return w.get(d) * x.get(row * k.A + k.c + d) / std::sqrt(sum / static_cast<double>(k.D) + epsilon);
}

TEST(RmsNorm, ForwardFollowsTheFormulaAndLeavesOtherColumns) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes())
    for (const Case& k : cases) {
      const DType acc = accumulate_dtype(dtype);
      const Buffer x = noisy(dtype, {k.M, k.A}, 1, 3.0), w = noisy(acc, {k.D}, 2), y(dtype, {k.M, k.B}),
                   rstd(acc, {k.M});
      rms_norm_forward(stream_of(pool), {1e-3, k.c, k.y_c}, x, w, y, rstd);
      for (std::int64_t i = 0; i < k.M * k.B; ++i) {
        const std::int64_t row = i / k.B, d = i % k.B - k.y_c;
        if (d < 0 || d >= k.D) {
          EXPECT_TRUE(is_poison(y, i));
        } else {
          const double expected = exact(x, w, k, 1e-3, row, d);
          EXPECT_NEAR(y.get(i), expected, std::abs(expected) * 20 * unit_of(dtype));
        }
      }
    }
}

TEST(RmsNorm, GradientsAgainstFiniteDifferences) {
  ThreadPool pool(1);
  const Stream stream = stream_of(pool);
  for (const Case& k : cases) {
    const Buffer x = noisy(DType::f64, {k.M, k.A}, 3), w = noisy(DType::f64, {k.D}, 4);
    const Buffer dy = noisy(DType::f64, {k.M, k.B}, 5), rstd(DType::f64, {k.M}), y(DType::f64, {k.M, k.B});
    const Buffer dx(DType::f64, {k.M, k.A}), residual = noisy(DType::f64, {k.M, k.A}, 6),
                                             dw = noisy(DType::f64, {k.D}, 7);
    const Buffer dw_before = dw;
    const RmsNorm norm{1e-3, k.c, k.y_c};
    rms_norm_forward(stream, norm, x, w, y, rstd);
    rms_norm_backward_input(stream, norm, dy, x, w, rstd, dx, residual);
    rms_norm_backward_weight(stream, norm, dy, x, rstd, dw);
    const auto loss = [&](std::int64_t row) {
      double sum = 0;
      for (std::int64_t d = 0; d < k.D; ++d) sum += dy.get(row * k.B + k.y_c + d) * exact(x, w, k, 1e-3, row, d);
      return sum;
    };
    const double step = 1e-5;
    for (std::int64_t i = 0; i < k.M * k.A; ++i) {
      const std::int64_t row = i / k.A, d = i % k.A - k.c;
      if (d < 0 || d >= k.D) {
        EXPECT_TRUE(is_poison(dx, i));
        continue;
      }
      const double at = x.get(i);
      x.set(i, at + step);
      const double up = loss(row);
      x.set(i, at - step);
      const double down = loss(row);
      x.set(i, at);
      EXPECT_NEAR(dx.get(i) - residual.get(i), (up - down) / (2 * step), 2e-8);
    }
    for (std::int64_t d = 0; d < k.D; ++d) {
      double expected = 0;
      for (std::int64_t row = 0; row < k.M; ++row)
        expected += dy.get(row * k.B + k.y_c + d) * x.get(row * k.A + k.c + d) * rstd.get(row);
      EXPECT_NEAR(dw.get(d) - dw_before.get(d), expected, 1e-12);
    }
  }
}

TEST(RmsNorm, ResidualMayBeTheGradientItself) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes()) {
    const DType acc = accumulate_dtype(dtype);
    const Buffer x = noisy(dtype, {4, 40}, 1), w = noisy(acc, {40}, 2), dy = noisy(dtype, {4, 40}, 3), rstd(acc, {4});
    const Buffer y(dtype, {4, 40}), apart(dtype, {4, 40}), in_place = noisy(dtype, {4, 40}, 4), residual = in_place;
    rms_norm_forward(stream_of(pool), {}, x, w, y, rstd);
    rms_norm_backward_input(stream_of(pool), {}, dy, x, w, rstd, apart, residual);
    rms_norm_backward_input(stream_of(pool), {}, dy, x, w, rstd, in_place, in_place);
    EXPECT_TRUE(same_bytes(apart, in_place));
  }
}

/// What one partial of the weight gradient holds, by the rule of docs/numerics.md, in float.
float partial(const Buffer& dy, const Buffer& x, const Buffer& rstd, std::int64_t D, std::int64_t d, std::int64_t begin,
              std::int64_t end) {
  float sum = 0;
  for (std::int64_t r = begin; r < end; ++r)
    sum = std::fma(static_cast<float>(dy.get(r * D + d)),
                   static_cast<float>(x.get(r * D + d)) * static_cast<float>(rstd.get(r)), sum);
  return sum;
}

TEST(RmsNorm, WeightGradientIsCutAsAsked) {
  if (on_card()) GTEST_SKIP() << "cuts and exact sums are mode layout's";
  ThreadPool pool(3);
  const std::int64_t M = 10, D = 300;
  const Buffer x = noisy(DType::bf16, {M, D}, 1), dy = noisy(DType::bf16, {M, D}, 2), rstd = noisy(DType::f32, {M}, 3);
  for (std::int64_t rows : {0, 1, 4}) {
    const Buffer exact_sum(DType::fx128, {D}), plain = noisy(DType::f32, {D}, 4), before = plain;
    std::memset(exact_sum->data, 0, static_cast<std::size_t>(exact_sum->bytes()));
    std::int32_t refused = 0;
    rms_norm_backward_weight(Stream(pool), {}, dy, x, rstd, exact_sum, {.rows = rows, .refused = &refused});
    rms_norm_backward_weight(Stream(pool), {}, dy, x, rstd, plain, {.rows = rows});
    EXPECT_EQ(refused, 0);
    for (std::int64_t d = 0; d < D; ++d) {
      int128 total = 0;
      auto sum = static_cast<float>(before.get(d));
      for (std::int64_t begin = 0, width = rows == 0 ? M : rows; begin < M; begin += width) {
        const float p = partial(dy, x, rstd, D, d, begin, std::min(M, begin + width));
        total += to_fixed128(p);
        sum += p;
      }
      EXPECT_TRUE(exact_sum->as<int128>()[d] == total) << rows << " " << d;
      EXPECT_EQ(plain.get(d), sum) << rows << " " << d;
    }
  }
}

TEST(RmsNorm, PartialsFollowTheTokenOfEachRow) {
  if (on_card()) GTEST_SKIP() << "cuts and exact sums are mode layout's";
  ThreadPool pool(1);
  const std::int64_t M = 6, D = 20;
  const std::int32_t token[] = {0, 3, 4, 5, 8, 9};  // blocks of 4: {0, 3}, {4, 5}, {8, 9}
  const Buffer x = noisy(DType::f32, {M, D}, 1), dy = noisy(DType::f32, {M, D}, 2), rstd = noisy(DType::f32, {M}, 3);
  const Buffer dw(DType::fx128, {D});
  std::memset(dw->data, 0, static_cast<std::size_t>(dw->bytes()));
  rms_norm_backward_weight(Stream(pool), {}, dy, x, rstd, dw, {.rows = 4, .row_token = token});
  for (std::int64_t d = 0; d < D; ++d) {
    const int128 expected = to_fixed128(partial(dy, x, rstd, D, d, 0, 2)) +
                            to_fixed128(partial(dy, x, rstd, D, d, 2, 4)) +
                            to_fixed128(partial(dy, x, rstd, D, d, 4, 6));
    EXPECT_TRUE(dw->as<int128>()[d] == expected);
  }
}

TEST(RmsNorm, ExactSumsRefuseWhatDoesNotFit) {
  if (on_card()) GTEST_SKIP() << "cuts and exact sums are mode layout's";
  ThreadPool pool(1);
  for (double bad : {std::nan(""), 0x1p41, -0x1p41, HUGE_VAL}) {
    const Buffer x = noisy(DType::f32, {2, 8}, 1), dy = noisy(DType::f32, {2, 8}, 2), rstd = noisy(DType::f32, {2}, 3);
    x.set(3, bad), dy.set(3, 1.0), rstd.set(0, 1.0);
    const Buffer dw(DType::fx128, {8});
    std::memset(dw->data, 0, static_cast<std::size_t>(dw->bytes()));
    std::int32_t refused = 0;
    rms_norm_backward_weight(Stream(pool), {}, dy, x, rstd, dw, {.rows = 1, .refused = &refused});
    EXPECT_EQ(refused, 1) << bad;
    EXPECT_TRUE(dw->as<int128>()[3] == to_fixed128(partial(dy, x, rstd, 8, 3, 1, 2)));
  }
}

/// Rows of one warp and of several, whole vectors and not, and rows that are too long to be held at once by a card's
/// block (16384 columns of bf16, 8192 of f32, 4096 of f64).
const Case wide_cases[] = {{13, 600, 16, 512, 520, 8},     {9, 136, 8, 128, 128, 0},      {1, 1541, 3, 1536, 1537, 1},
                           {3, 1536, 0, 1536, 1540, 0},    {2, 7168, 0, 7168, 7168, 0},   {2, 4100, 0, 4100, 4104, 4},
                           {2, 16640, 8, 16600, 16600, 0}, {1, 33000, 0, 33000, 33001, 1}};

TEST(RmsNorm, RowsOfAnyWidth) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes())
    for (const Case& k : wide_cases) {
      SCOPED_TRACE(::testing::Message() << name_of(dtype) << " " << k.D);
      const DType acc = accumulate_dtype(dtype);
      const Buffer x = noisy(dtype, {k.M, k.A}, 1, 3.0), w = noisy(acc, {k.D}, 2), dy = noisy(dtype, {k.M, k.B}, 3);
      const Buffer y(dtype, {k.M, k.B}), rstd(acc, {k.M}), dx(dtype, {k.M, k.A}), sum = noisy(dtype, {k.M, k.A}, 4);
      const Buffer before = sum;
      const RmsNorm norm{1e-3, k.c, k.y_c};
      rms_norm_forward(stream_of(pool), norm, x, w, y, rstd);
      rms_norm_backward_input(stream_of(pool), norm, dy, x, w, rstd, dx);
      rms_norm_backward_input(stream_of(pool), norm, dy, x, w, rstd, sum, sum);
      const double unit = unit_of(dtype), sums = 64 * unit_of(acc);
      for (std::int64_t row = 0; row < k.M; ++row) {
        long double squares = 0, dot = 0, size_of_dot = 0;
        const auto in = [&](std::int64_t d) { return x.get(row * k.A + k.c + d); };
        const auto up = [&](std::int64_t d) { return dy.get(row * k.B + k.y_c + d) * w.get(d); };
        for (std::int64_t d = 0; d < k.D; ++d) {
          const double a = in(d), b = up(d);
          squares += a * a, dot += a * b, size_of_dot += std::abs(a * b);
        }
        const auto scale = static_cast<double>(1 / std::sqrt(squares / static_cast<long double>(k.D) + 1e-3L));
        const double mean = scale * scale / static_cast<double>(k.D), slope = static_cast<double>(dot) * mean;
        ASSERT_NEAR(rstd.get(row), scale, scale * sums);
        for (std::int64_t i = 0; i < k.B; ++i) {
          const std::int64_t d = i - k.y_c;
          if (d < 0 || d >= k.D)
            ASSERT_TRUE(is_poison(y, row * k.B + i));
          else
            ASSERT_NEAR(y.get(row * k.B + i), scale * in(d)*w.get(d), scale * std::abs(in(d)) * (unit + sums)) << d;
        }
        for (std::int64_t i = 0; i < k.A; ++i) {
          const std::int64_t d = i - k.c, at = row * k.A + i;
          if (d < 0 || d >= k.D) {
            ASSERT_TRUE(is_poison(dx, at));
            ASSERT_EQ(sum.get(at), before.get(at));
            continue;
          }
          const double want = scale * (up(d) - slope * in(d)),
                       size = scale * (std::abs(up(d)) + static_cast<double>(size_of_dot) * mean * std::abs(in(d)));
          ASSERT_NEAR(dx.get(at), want, size * (unit + sums)) << d;
          ASSERT_NEAR(sum.get(at), want + before.get(at), (size + std::abs(before.get(at))) * (unit + sums)) << d;
        }
      }
    }
}

TEST(RmsNorm, WeightGradientSumsManyRows) {
  ThreadPool pool(2);
  struct Sizes {
    std::int64_t M, A, c, D, B, y_c;
  };
  for (DType dtype : float_dtypes())
    for (const Sizes& k : {Sizes{1, 40, 8, 24, 32, 0}, Sizes{333, 300, 8, 280, 296, 16}, Sizes{67, 70, 1, 67, 69, 2},
                           Sizes{2100, 16, 0, 16, 24, 8}, Sizes{40, 2600, 0, 2600, 2600, 0}}) {
      const DType acc = accumulate_dtype(dtype);
      const Buffer x = noisy(dtype, {k.M, k.A}, 1), dy = noisy(dtype, {k.M, k.B}, 2), rstd = noisy(acc, {k.M}, 3);
      const Buffer dw = noisy(acc, {k.D}, 4), before = dw;
      rms_norm_backward_weight(stream_of(pool), {1e-6, k.c, k.y_c}, dy, x, rstd, dw);
      for (std::int64_t d = 0; d < k.D; ++d) {
        double sum = before.get(d), size = std::abs(sum);
        for (std::int64_t r = 0; r < k.M; ++r) {
          const double term = dy.get(r * k.B + k.y_c + d) * x.get(r * k.A + k.c + d) * rstd.get(r);
          sum += term, size += std::abs(term);
        }
        // A chain of M on the CPU.
        ASSERT_NEAR(dw.get(d), sum, size * static_cast<double>(k.M + 2) * unit_of(acc)) << k.M << " " << d;
      }
      const Buffer again = before;
      rms_norm_backward_weight(stream_of(pool), {1e-6, k.c, k.y_c}, dy, x, rstd, again);
      EXPECT_TRUE(same_bytes(dw, again));
    }
}

TEST(RmsNorm, ARowThatIsNotFiniteStaysAlone) {
  ThreadPool pool(1);
  for (DType dtype : float_dtypes()) {
    const std::int64_t M = 4, D = 264;
    const DType acc = accumulate_dtype(dtype);
    const Buffer x = noisy(dtype, {M, D}, 1), w = noisy(acc, {D}, 2), y(dtype, {M, D}), rstd(acc, {M});
    x.set(D + 7, std::nan(""));
    x.set(2 * D + 9, HUGE_VAL);
    rms_norm_forward(stream_of(pool), {}, x, w, y, rstd);
    for (std::int64_t d = 0; d < D; ++d) {
      EXPECT_TRUE(std::isfinite(y.get(d)) && std::isfinite(y.get(3 * D + d)));
      EXPECT_TRUE(std::isnan(y.get(D + d)));
      EXPECT_TRUE(d == 9 ? std::isnan(y.get(2 * D + d)) : y.get(2 * D + d) == 0);
    }
    EXPECT_TRUE(std::isnan(rstd.get(1)));
    EXPECT_EQ(rstd.get(2), 0.0);
  }
}

TEST(RmsNorm, ModeLayoutIsNotForACard) {
  ThreadPool pool(1);
  const Buffer x = noisy(DType::f32, {2, 8}, 1), rstd = noisy(DType::f32, {2}, 3);
  const Buffer exact_sum(DType::fx128, {8}, std::vector<double>(8, 0.0)), dw = noisy(DType::f32, {8}, 4);
  expect_on_cpu_alone([&] { rms_norm_backward_weight(stream_of(pool), {}, x, x, rstd, exact_sum); });
  expect_on_cpu_alone([&] { rms_norm_backward_weight(stream_of(pool), {}, x, x, rstd, dw, {.rows = 1}); });
}

TEST(RmsNorm, NoRows) {
  ThreadPool pool(2);
  const Buffer x(DType::bf16, {0, 8}), w = noisy(DType::f32, {8}, 1), rstd(DType::f32, {0}),
                                       dw = noisy(DType::f32, {8}, 2);
  const Buffer before = dw;
  rms_norm_forward(stream_of(pool), {}, x, w, x, rstd);
  rms_norm_backward_input(stream_of(pool), {}, x, x, w, rstd, x);
  rms_norm_backward_weight(stream_of(pool), {}, x, x, rstd, dw);
  EXPECT_TRUE(same_bytes(before, dw));
}

TEST(RmsNorm, InstructionSetsAndThreadsGiveEqualBits) {
  if (on_card()) GTEST_SKIP() << "a card has neither";
  for (DType dtype : float_dtypes()) {
    const DType acc = accumulate_dtype(dtype);
    const std::int64_t M = 301, D = 277;
    const Buffer x = noisy(dtype, {M, D}, 1), w = noisy(acc, {D}, 2), dy = noisy(dtype, {M, D}, 3);
    const auto run = [&](const Stream& stream) {
      std::vector<Buffer> out;
      out.emplace_back(dtype, Shape{M, D}), out.emplace_back(acc, Shape{M});
      out.emplace_back(dtype, Shape{M, D}), out.push_back(noisy(acc, {D}, 4)), out.push_back(noisy(acc, {D}, 5));
      rms_norm_forward(stream, {}, x, w, out[0], out[1]);
      rms_norm_backward_input(stream, {}, dy, x, w, out[1], out[2], x);
      rms_norm_backward_weight(stream, {}, dy, x, out[1], out[3]);
      rms_norm_backward_weight(stream, {}, dy, x, out[1], out[4], {.rows = 8});
      return out;
    };
    ThreadPool one(1);
    const auto expected = run(Stream(one, Isa::portable));
    for (Isa isa : machine_isas())
      for (int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        const auto got = run(Stream(pool, isa));
        for (std::size_t i = 0; i < got.size(); ++i)
          EXPECT_TRUE(same_bytes(expected[i], got[i]))
              << name_of(dtype) << " " << name_of(isa) << " " << threads << " " << i;
      }
  }
}

}  // namespace
}  // namespace fourmi
