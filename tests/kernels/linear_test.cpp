// Linear maps against the definition in double precision, and the order of a bf16 chain by hand-made cases.
#include "kernels/ops/linear.h"

#include <gtest/gtest.h>
#include <immintrin.h>

#include "tests/device/stream.h"
#include "tests/kernels/linear_streams.h"

namespace fourmi {
namespace {

using test::isas_here;
using test::Random;
using test::stream_on;
using test::TypedBuffer;

struct Triple {
  DType in, out;
};
constexpr Triple triples[] = {
    {DType::f64, DType::f64}, {DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}};

struct Sizes {
  std::int64_t rows, in, out;
};
constexpr Sizes sizes[] = {{1, 1, 1},    {13, 7, 33},  {12, 32, 32}, {64, 48, 96}, {5, 321, 17},
                           {31, 513, 7}, {3, 130, 40}, {100, 16, 1}, {50, 2, 320}};

/// Relative to the sum of magnitudes of what is added: one rounding a product, and one of the output.
double bound(Triple t, std::int64_t count, double magnitude) {
  const double accumulate = t.in == DType::f64 ? 0x1p-53 : test::looseness(t.in) * 0x1p-24;
  const double output = t.out == DType::bf16 ? 0x1p-8 : t.out == DType::f32 ? 0x1p-24 : 0x1p-53;
  return magnitude * (static_cast<double>(count + 2) * accumulate + output) + 1e-300;
}

struct Sum {
  double value, magnitude;
};
template <class F>
Sum sum_over(std::int64_t count, F term) {
  Sum s{0, 0};
  for (std::int64_t i = 0; i < count; ++i) {
    s.value += term(i);
    s.magnitude += std::abs(term(i));
  }
  return s;
}

template <class F>
void for_all(F body) {
  ThreadPool pool(2);
  Random random(7);
  for (const Isa isa : isas_here())
    for (const Triple t : triples)
      for (const Sizes& s : sizes)
        for (const bool with_residual : {false, true}) {
          SCOPED_TRACE(fmt::format("{} {}->{} {}x{}x{} residual {}", name_of(isa), name_of(t.in), name_of(t.out),
                                   s.rows, s.in, s.out, with_residual));
          body(stream_on(pool, isa), random, t, s, with_residual);
          if (testing::Test::HasFailure()) return;
        }
}

TEST(Linear, ForwardIsTheFormula) {
  for_all([](const Stream& stream, Random& random, Triple t, Sizes s, bool with_residual) {
    TypedBuffer x({s.rows, s.in}, t.in), w({s.out, s.in}, t.in), y({s.rows, s.out}, t.out), r({s.rows, s.out}, t.out);
    x.fill(random), w.fill(random), r.fill(random);
    linear_forward(stream, x.tensor(), w.tensor(), y.tensor(), with_residual ? r.tensor() : Tensor{});
    for (std::int64_t i = 0; i < s.rows; ++i)
      for (std::int64_t j = 0; j < s.out; ++j) {
        Sum e = sum_over(s.in, [&](std::int64_t k) { return x.get(i * s.in + k) * w.get(j * s.in + k); });
        const double extra = with_residual ? r.get(i * s.out + j) : 0;
        ASSERT_NEAR(y.get(i * s.out + j), e.value + extra, bound(t, s.in, e.magnitude + std::abs(extra)));
      }
  });
}

TEST(Linear, BackwardInputIsTheFormula) {
  for_all([](const Stream& stream, Random& random, Triple t, Sizes s, bool with_residual) {
    TypedBuffer dy({s.rows, s.out}, t.in), w({s.out, s.in}, t.in), dx({s.rows, s.in}, t.out), r({s.rows, s.in}, t.out);
    dy.fill(random), w.fill(random), r.fill(random);
    linear_backward_input(stream, dy.tensor(), w.tensor(), dx.tensor(), with_residual ? r.tensor() : Tensor{});
    for (std::int64_t i = 0; i < s.rows; ++i)
      for (std::int64_t k = 0; k < s.in; ++k) {
        Sum e = sum_over(s.out, [&](std::int64_t n) { return dy.get(i * s.out + n) * w.get(n * s.in + k); });
        const double extra = with_residual ? r.get(i * s.in + k) : 0;
        ASSERT_NEAR(dx.get(i * s.in + k), e.value + extra, bound(t, s.out, e.magnitude + std::abs(extra)));
      }
  });
}

TEST(Linear, BackwardWeightAddsTheFormula) {
  for_all([](const Stream& stream, Random& random, Triple t, Sizes s, bool holds_something) {
    t.out = accumulate_dtype(t.in);
    TypedBuffer dy({s.rows, s.out}, t.in), x({s.rows, s.in}, t.in), dw({s.out, s.in}, t.out);
    dy.fill(random), x.fill(random), dw.fill_zero();
    if (holds_something) dw.fill(random);
    TypedBuffer before = dw;
    linear_backward_weight(stream, dy.tensor(), x.tensor(), dw.tensor());
    for (std::int64_t n = 0; n < s.out; ++n)
      for (std::int64_t k = 0; k < s.in; ++k) {
        Sum e = sum_over(s.rows, [&](std::int64_t m) { return dy.get(m * s.out + n) * x.get(m * s.in + k); });
        const double extra = before.get(n * s.in + k);
        ASSERT_NEAR(dw.get(n * s.in + k), e.value + extra, bound(t, s.rows, e.magnitude + std::abs(extra)));
      }
  });
}

TEST(Linear, ResidualMayBeTheOutput) {
  ThreadPool pool(1);
  Random random(3);
  for (const Isa isa : isas_here())
    for (const Triple t : triples) {
      TypedBuffer x({30, 40}, t.in), w({50, 40}, t.in), y({30, 50}, t.out), r({30, 50}, t.out);
      x.fill(random), w.fill(random), r.fill(random);
      linear_forward(stream_on(pool, isa), x.tensor(), w.tensor(), y.tensor(), r.tensor());
      linear_forward(stream_on(pool, isa), x.tensor(), w.tensor(), r.tensor(), r.tensor());
      EXPECT_TRUE(y == r) << name_of(isa) << " " << name_of(t.in);
    }
}

/// y for one row of x and one row of w, bf16 in, f32 out.
float dot(Isa isa, std::vector<bfloat16> a, std::vector<bfloat16> b, const float* residual = nullptr) {
  ThreadPool pool(1);
  const auto n = static_cast<std::int64_t>(a.size());
  float y = std::numeric_limits<float>::quiet_NaN(), r = residual ? *residual : 0;
  linear_forward(stream_on(pool, isa), {a.data(), DType::bf16, {1, n}}, {b.data(), DType::bf16, {1, n}},
                 {&y, DType::f32, {1, 1}}, residual ? Tensor{&r, DType::f32, {1, 1}} : Tensor{});
  return y;
}
bfloat16 b16(float x) {
  return bfloat16(x);
}
bfloat16 raw(std::uint16_t bits) {
  return bfloat16::from_bits(bits);
}

TEST(Linear, PairsGoOddFirst) {
  if (test::on_card()) GTEST_SKIP() << "the order of a bf16 chain is the CPU's";
  const bfloat16 one = b16(1), big = b16(0x1p24F), minus = b16(-0x1p24F);
  for (const Isa isa : isas_here()) {
    // 2^24 + 1 loses the one, so the result says what was added before the cancellation.
    EXPECT_EQ(dot(isa, {one, big, minus, one}, {one, one, one, one}), 0.0F) << name_of(isa);  // 2^24 + 1 + 1 - 2^24
    EXPECT_EQ(dot(isa, {one, big, one, minus}, {one, one, one, one}), 1.0F) << name_of(isa);  // 2^24 + 1 - 2^24 + 1
    EXPECT_EQ(dot(isa, {big, one, minus, one}, {one, one, one, one}), 0.0F) << name_of(isa);  // 1 + 2^24 + 1 - 2^24
    EXPECT_EQ(dot(isa, {minus, big, one}, {one, one, one}), 1.0F) << name_of(isa);            // 2^24 - 2^24 + 0 + 1
  }
}

TEST(Linear, Bf16DenormalsAreZero) {
  if (test::on_card()) GTEST_SKIP() << "the matrix units keep denormals";
  for (const Isa isa : isas_here()) {
    constexpr unsigned control = ~0x3fU;  // the lower bits record what happened, and stay
    const unsigned before = _mm_getcsr() & control;
    EXPECT_EQ(dot(isa, {raw(0x0001)}, {b16(0x1p100F)}), 0.0F);
    EXPECT_EQ(dot(isa, {b16(0x1p-100F), b16(0x1p-100F)}, {b16(0x1p-27F), b16(0x1p-27F)}), 0.0F);  // each is flushed
    // 2^-126 minus a little: rounds to 2^-126 among denormals, but is tiny when rounded to 24 bits, hence flushed.
    const bfloat16 root = b16(0x1p-63F), zero = b16(0);
    EXPECT_EQ(dot(isa, {root, zero}, {root, zero}), 0x1p-126F) << name_of(isa);
    EXPECT_EQ(dot(isa, {root, zero, raw(0x8ca2), raw(0x0a87)}, {root, zero, raw(0x26fa), raw(0xa0ab)}), 0.0F)
        << name_of(isa);
    // A tiny result below zero is flushed to -0, also after the padding of an odd count.
    EXPECT_TRUE(std::signbit(dot(isa, {b16(-0x1p-100F), b16(0)}, {b16(0x1p-90F), b16(0)}))) << name_of(isa);
    EXPECT_TRUE(std::signbit(dot(isa, {b16(-0x1p-100F)}, {b16(0x1p-90F)}))) << name_of(isa);
    // The finish keeps denormals.
    const float residual = 0x1p-140F;
    EXPECT_EQ(dot(isa, {b16(1)}, {b16(0)}, &residual), residual) << name_of(isa);
    EXPECT_EQ(_mm_getcsr() & control, before);
  }
}

TEST(Linear, NotANumberStaysInItsRow) {
  ThreadPool pool(1);
  Random random(4);
  for (const Isa isa : isas_here())
    for (const Triple t : triples) {
      TypedBuffer x({14, 20}, t.in), w({35, 20}, t.in), y({14, 35}, t.out), r({14, 35}, t.out);
      x.fill(random), w.fill(random), r.fill_zero();
      x.set(13 * 20 + 19, std::numeric_limits<double>::quiet_NaN());
      x.set(2 * 20, std::numeric_limits<double>::infinity());
      for (const Tensor& residual : {Tensor{}, r.tensor()}) {
        linear_forward(stream_on(pool, isa), x.tensor(), w.tensor(), y.tensor(), residual);
        for (std::int64_t i = 0; i < y.size(); ++i) {
          EXPECT_EQ(std::isnan(y.get(i)), i / 35 == 13) << name_of(isa) << " " << name_of(t.out) << " " << i;
          EXPECT_EQ(std::isinf(y.get(i)), i / 35 == 2) << name_of(isa) << " " << name_of(t.out) << " " << i;
        }
      }
    }
}

TEST(Linear, ZeroSizes) {
  ThreadPool pool(2);
  for (const Isa isa : isas_here()) {
    const Stream stream = stream_on(pool, isa);
    Random random(1);
    TypedBuffer x({3, 0}, DType::bf16), w({5, 0}, DType::bf16), y({3, 5}, DType::bf16), r({3, 5}, DType::bf16);
    r.fill(random);
    linear_forward(stream, x.tensor(), w.tensor(), y.tensor());
    TypedBuffer zero({3, 5}, DType::bf16);
    EXPECT_TRUE(y == zero.fill_zero()) << name_of(isa);
    linear_forward(stream, x.tensor(), w.tensor(), y.tensor(), r.tensor());
    EXPECT_TRUE(y == r) << name_of(isa);

    TypedBuffer none({0, 4}, DType::bf16), weights({6, 4}, DType::bf16), out({0, 6}, DType::bf16),
        dw({6, 4}, DType::f32);
    weights.fill(random);
    for (std::int64_t i = 0; i < dw.size(); ++i) dw.set(i, -0.0);
    TypedBuffer before = dw;
    linear_forward(stream, none.tensor(), weights.tensor(), out.tensor());
    linear_backward_input(stream, out.tensor(), weights.tensor(), none.tensor());
    linear_backward_weight(stream, out.tensor(), none.tensor(), dw.tensor());
    EXPECT_TRUE(dw == before) << name_of(isa);  // no rows, no partial: still -0
  }
}

TEST(Linear, WrongCallsAreRefused) {
  ThreadPool pool(1);
  const Stream stream = test::stream_of(pool);
  TypedBuffer x({4, 6}, DType::bf16), w({5, 6}, DType::bf16), y({4, 5}, DType::bf16);
  TypedBuffer w32({5, 6}, DType::f32), y64({4, 5}, DType::f64), short_y({4, 4}, DType::bf16);
  EXPECT_THROW(linear_forward(stream, x.tensor(), w32.tensor(), y.tensor()), Error);
  EXPECT_THROW(linear_forward(stream, x.tensor(), w.tensor(), y64.tensor()), Error);
  EXPECT_THROW(linear_forward(stream, x.tensor(), w.tensor(), short_y.tensor()), Error);
  EXPECT_THROW(linear_forward(stream, x.tensor(), w.tensor(), y.tensor(), short_y.tensor()), Error);
  TypedBuffer fixed({4, 5}, DType::fx128), experts({2, 5, 6}, DType::bf16);
  EXPECT_THROW(linear_forward(stream, x.tensor(), w.tensor(), fixed.tensor()), Error);
  const std::int32_t falling[] = {0, 3, 2}, outside[] = {0, 3, 5}, few[] = {0, 4};
  for (const std::span<const std::int32_t> offsets : {std::span(falling), std::span(outside)})
    EXPECT_THROW(grouped_linear_forward(stream, x.tensor(), experts.tensor(), offsets, y.tensor()), Error);
  EXPECT_THROW(grouped_linear_forward(stream, x.tensor(), experts.tensor(), few, y.tensor()), Error);
}

}  // namespace
}  // namespace fourmi
