// Cuts: partials of weight gradients in f32 and f64 against manual sums, in fx128 against any split and order.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/numerics/fixed128.h"
#include "kernels/ops/linear.h"
#include "tests/kernels/linear_test_data.h"

namespace fourmi {
namespace {

using test::isas;
using test::pick;
using test::Random;
using test::TypedBuffer;

/// One uncut partial of rows [begin, end): a chain from zero.
TypedBuffer partial(const Stream& stream, TypedBuffer& dy, TypedBuffer& x, std::int64_t begin, std::int64_t end) {
  const Tensor a = dy.tensor().rows(begin, end), b = x.tensor().rows(begin, end);
  TypedBuffer p({a.dim(1), b.dim(1)}, accumulate_dtype(a.dtype));
  linear_backward_weight(stream, a, b, p.fill_zero().tensor());
  return p;
}

TEST(LinearCuts, FloatsAreManualPartialSums) {
  ThreadPool pool(2);
  Random random(1);
  for (const Isa isa : isas())
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      const Stream stream(pool, isa);
      constexpr std::int64_t rows = 53, in = 37, out = 19, cut = 16;
      TypedBuffer dy({rows, out}, dtype), x({rows, in}, dtype), dw({out, in}, accumulate_dtype(dtype));
      dy.fill(random), x.fill(random), dw.fill(random);
      TypedBuffer expected = dw, uncut = dw;
      for (std::int64_t begin = 0; begin < rows; begin += cut) {
        TypedBuffer p = partial(stream, dy, x, begin, std::min(rows, begin + cut));
        for (std::int64_t i = 0; i < p.size(); ++i) {
          if (dtype == DType::f64)
            expected.data<double>()[i] += p.data<double>()[i];
          else
            expected.data<float>()[i] += p.data<float>()[i];
        }
      }
      linear_backward_weight(stream, dy.tensor(), x.tensor(), dw.tensor(), {.rows = cut});
      linear_backward_weight(stream, dy.tensor(), x.tensor(), uncut.tensor());
      EXPECT_TRUE(dw == expected) << name_of(isa) << " " << name_of(dtype);
      EXPECT_FALSE(dw == uncut) << "the cuts change nothing: the test is blind";
    }
}

TEST(LinearCuts, FixedPointIsTheSumOfRoundedPartials) {
  ThreadPool pool(1);
  Random random(2);
  for (const Isa isa : isas())
    for (const int exponent : {0, -25, -31, 15}) {  // partials around 1, around the unit 2^-64, around 2^30
      const Stream stream(pool, isa);
      constexpr std::int64_t rows = 40, in = 21, out = 14, cut = 8;
      TypedBuffer dy({rows, out}, DType::bf16), x({rows, in}, DType::bf16), dw({out, in}, DType::fx128);
      dy.fill(random, exponent), x.fill(random, exponent), dw.fill(random);
      TypedBuffer expected = dw;
      for (std::int64_t begin = 0; begin < rows; begin += cut) {
        TypedBuffer p = partial(stream, dy, x, begin, begin + cut);
        for (std::int64_t i = 0; i < p.size(); ++i) expected.data<int128>()[i] += to_fixed128(p.data<float>()[i]);
      }
      linear_backward_weight(stream, dy.tensor(), x.tensor(), dw.tensor(), {.rows = cut});
      EXPECT_TRUE(dw == expected) << name_of(isa) << " " << exponent;
    }
}

TEST(LinearCuts, FixedPointOfHalvesAndUnits) {
  ThreadPool pool(1);
  const float values[] = {0.5F,     -0.5F,     1.5F,      -1.5F,    2.5F,           -2.5F,           0.0F,
                          0x1p-65F, 0x3p-65F,  -0x3p-65F, 0x1p-40F, 0x1.fffffep39F, -0x1.fffffep39F, 1048575.5F,
                          -1.0F,    0x1p-149F, -0x1p-64F, 0.25F,    -0x1.8p-64F};
  constexpr std::int64_t n = std::size(values);
  for (const Isa isa : isas())
    for (const int start : {0, 1, -1}) {  // totals on both sides of zero, so that carries and borrows cross the halves
      TypedBuffer dy({1, 1}, DType::f32), x({1, n}, DType::f32), dw({1, n}, DType::fx128);
      dy.set(0, 1);
      for (std::int64_t i = 0; i < n; ++i) x.data<float>()[i] = values[i], dw.data<int128>()[i] = start;
      linear_backward_weight(Stream(pool, isa), dy.tensor(), x.tensor(), dw.tensor());
      for (std::int64_t i = 0; i < n; ++i)
        EXPECT_TRUE(dw.data<int128>()[i] == start + to_fixed128(values[i])) << name_of(isa) << " " << values[i];
    }
}

TEST(LinearCuts, FixedPointDoesNotDependOnCallsOrOrder) {
  ThreadPool pool(2);
  Random random(3);
  for (const Isa isa : isas())
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const Stream stream(pool, isa);
      constexpr std::int64_t rows = 96, in = 40, out = 33, cut = 8;
      TypedBuffer dy({rows, out}, dtype), x({rows, in}, dtype), whole({out, in}, DType::fx128);
      dy.fill(random), x.fill(random);
      whole.fill_zero();
      TypedBuffer start = whole;
      linear_backward_weight(stream, dy.tensor(), x.tensor(), whole.tensor(), {.rows = cut});
      for (int trial = 0; trial < 10; ++trial) {
        std::vector<std::int64_t> ends{0};
        while (ends.back() < rows) ends.push_back(std::min(rows, ends.back() + cut * pick(random, 1, 4)));
        std::vector<std::size_t> order(ends.size() - 1);
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::shuffle(order.begin(), order.end(), random);
        TypedBuffer split = start;
        for (const std::size_t i : order)
          linear_backward_weight(stream, dy.tensor().rows(ends[i], ends[i + 1]), x.tensor().rows(ends[i], ends[i + 1]),
                                 split.tensor(), {.rows = cut});
        ASSERT_TRUE(split == whole) << name_of(isa) << " " << trial;
      }
    }
}

TEST(LinearCuts, GroupedFixedPointFollowsTokens) {
  ThreadPool pool(2);
  Random random(4);
  constexpr std::int64_t tokens = 64, experts = 4, top = 2, in = 24, out = 20, cut = 16;
  for (const Isa isa : isas()) {
    const Stream stream(pool, isa);
    TypedBuffer token_x({tokens, in}, DType::bf16), token_dy({tokens, out}, DType::bf16);
    token_x.fill(random), token_dy.fill(random);
    std::vector<std::vector<bool>> chosen(tokens, std::vector<bool>(experts));
    for (auto& c : chosen)
      for (int k = 0; k < top; ++k)
        c[static_cast<std::size_t>(pick(random, 0, experts - 2))] = true;  // the last is empty
    // Rows of tokens [begin, end), sorted by expert, token ascending inside.
    auto add = [&](std::int64_t begin, std::int64_t end, TypedBuffer& dw) {
      std::vector<std::int32_t> offsets{0}, row_token;
      for (std::size_t e = 0; e < experts; ++e) {
        for (std::int64_t t = begin; t < end; ++t)
          if (chosen[static_cast<std::size_t>(t)][e]) row_token.push_back(static_cast<std::int32_t>(t));
        offsets.push_back(static_cast<std::int32_t>(row_token.size()));
      }
      const auto rows = static_cast<std::int64_t>(row_token.size());
      TypedBuffer x({rows, in}, DType::bf16), dy({rows, out}, DType::bf16);
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t t = row_token[static_cast<std::size_t>(r)];
        for (std::int64_t k = 0; k < in; ++k) x.set(r * in + k, token_x.get(t * in + k));
        for (std::int64_t n = 0; n < out; ++n) dy.set(r * out + n, token_dy.get(t * out + n));
      }
      grouped_linear_backward_weight(stream, dy.tensor(), x.tensor(), offsets, dw.tensor(),
                                     {.rows = cut, .row_token = row_token.data()});
    };
    TypedBuffer whole({experts, out, in}, DType::fx128), halves, quarters;
    halves = quarters = whole.fill_zero();
    add(0, tokens, whole);
    add(32, tokens, halves), add(0, 32, halves);
    for (const std::int64_t q : {2, 0, 3, 1}) add(q * 16, q * 16 + 16, quarters);
    EXPECT_TRUE(whole == halves) << name_of(isa);
    EXPECT_TRUE(whole == quarters) << name_of(isa);
    bool empty_is_zero = true, others_are_not = false;
    for (std::int64_t i = 0; i < whole.size(); ++i)
      (i >= 3 * out * in ? empty_is_zero : others_are_not) = i >= 3 * out * in
                                                                 ? empty_is_zero && whole.data<int128>()[i] == 0
                                                                 : others_are_not || whole.data<int128>()[i] != 0;
    EXPECT_TRUE(empty_is_zero && others_are_not);
  }
}

TEST(LinearCuts, RefusesWhatDoesNotFit) {
  ThreadPool pool(1);
  for (const Isa isa : isas()) {
    const Stream stream(pool, isa);
    TypedBuffer dy({4, 2}, DType::f32), x({4, 2}, DType::f32), dw({2, 2}, DType::fx128);
    dw.fill_zero(), dy.fill_zero(), x.fill_zero();
    for (std::int64_t r = 0; r < 4; ++r) x.set(2 * r, 1), dy.set(2 * r, 0x1p39);
    std::int32_t refused = 0;
    const Cuts cuts{.rows = 1, .refused = &refused};
    linear_backward_weight(stream, dy.tensor(), x.tensor(), dw.tensor(), cuts);
    EXPECT_EQ(refused, 0);
    EXPECT_TRUE(dw.data<int128>()[0] == static_cast<int128>(1) << 105);  // 4 x 2^39, the sum may pass 2^40
    dy.set(2, -0x1p40);                                                  // row 1 is left out, the others count
    linear_backward_weight(stream, dy.tensor(), x.tensor(), dw.tensor(), cuts);
    EXPECT_EQ(refused, 1);
    EXPECT_TRUE(dw.data<int128>()[0] == static_cast<int128>(7) << 103);
    dy.set(2, 0);
    linear_backward_weight(stream, dy.tensor(), x.tensor(), dw.tensor(), cuts);
    EXPECT_EQ(refused, 1);  // never cleared
    for (const double bad : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
      refused = 0;
      dw.fill_zero();
      dy.set(2, bad);
      linear_backward_weight(stream, dy.tensor(), x.tensor(), dw.tensor(), cuts);
      EXPECT_EQ(refused, 1);
      EXPECT_TRUE(dw.data<int128>()[0] == static_cast<int128>(3) << 103);
    }
  }
}

}  // namespace
}  // namespace fourmi
