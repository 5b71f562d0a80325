// The imitation of Hopper's accumulator: its cuts by hand, against the definition in double, and the error that
// promotion every 128 elements is for.
#include <gtest/gtest.h>

#include "tests/kernels/float8_test_data.h"

namespace fourmi {
namespace {

using test::Columns;
using test::Float8;
using test::isas;
using test::Random;
using test::TypedBuffer;

constexpr Float8Sum hopper{Float8Sum::Accumulator::hopper}, unpromoted{Float8Sum::Accumulator::hopper, 0};

/// One row of values a times ones and minus ones; both scales 1.
float sum_of(Isa isa, const std::vector<std::pair<double, double>>& products, const Float8Sum& sum = hopper) {
  ThreadPool pool(1);
  const auto n = static_cast<std::int64_t>(products.size());
  Float8 a(DType::e4m3_rows, 0, 1, n), b(DType::e4m3_panels, 0, 1, n);
  for (std::int64_t i = 0; i < n; ++i) {
    const auto& [x, y] = products[static_cast<std::size_t>(i)];
    a.set_scale(i, 1), b.set_scale(i, 1);
    a.q(i) = float8_e4m3(static_cast<float>(x)).bits, b.q(i) = float8_e4m3(static_cast<float>(y)).bits;
  }
  float y = -1;
  linear_forward(Stream(pool, isa), a.tensor(), b.tensor(), {&y, DType::f32, {1, 1}}, {}, 1, sum);
  return y;
}

/// `first`, then the rest of its 32 products, then more of them.
std::vector<std::pair<double, double>> row(std::pair<double, double> first, std::pair<double, double> rest, int count) {
  std::vector<std::pair<double, double>> all(static_cast<std::size_t>(count), rest);
  all[0] = first;
  return all;
}

TEST(LinearHopper, ThirteenFractionBitsOfTheLargestStay) {
  for (const Isa isa : isas()) {
    EXPECT_EQ(sum_of(isa, row({256, 256}, {2, 4}, 32)), 65536.0F + 31 * 8);   // 2^16 and 2^3: the last bit
    EXPECT_EQ(sum_of(isa, row({256, 256}, {2, 2}, 32)), 65536.0F);            // 2^2 is cut
    EXPECT_EQ(sum_of(isa, row({256, 256}, {-3, 5}, 32)), 65536.0F - 31 * 8);  // -15 becomes -8: towards zero
    EXPECT_EQ(sum_of(isa, row({2, 2}, {256, 256}, 32)), 65536.0F * 31);       // wherever the largest is
    EXPECT_EQ(sum_of(isa, row({0, 1}, {0, 1}, 32)), 0.0F);
    EXPECT_EQ(sum_of(isa, row({448, 448}, {0x1p-9, 0x1p-9}, 20)), 448.0F * 448);
    EXPECT_EQ(sum_of(isa, row({0x1p-9, 0x1p-9}, {0x1p-9, 0x1p-9}, 50)), 50 * 0x1p-18F);  // nothing to cut
  }
}

TEST(LinearHopper, TheSumSoFarIsCutWithTheNextThirtyTwo) {
  for (const Isa isa : isas()) {
    auto products = row({1, 1}, {0, 0}, 33);
    products[32] = {256, 256};
    EXPECT_EQ(sum_of(isa, products), 65536.0F);
    products.resize(34);
    products[33] = {-256, 256};
    EXPECT_EQ(sum_of(isa, products), 0.0F);
    // In the next 128 it is not: the sum was promoted. Without promotion it is.
    products = row({1, 1}, {0, 0}, 129);
    products[128] = {256, 256};
    EXPECT_EQ(sum_of(isa, products), 65537.0F);
    EXPECT_EQ(sum_of(isa, products, unpromoted), 65536.0F);
    EXPECT_EQ(sum_of(isa, products, {Float8Sum::Accumulator::hopper, 256}), 65536.0F);
  }
}

/// docs/numerics.md "FP8 products" 4 in double, in which all of it is exact.
double aligned_sum(const std::vector<double>& a, const std::vector<double>& b, std::size_t begin, std::size_t end) {
  double sum = 0;
  for (std::size_t s = begin; s < end; s += 32) {
    const std::size_t next = std::min(end, s + 32);
    double largest = std::abs(sum);
    for (std::size_t i = s; i < next; ++i) largest = std::max(largest, std::abs(a[i] * b[i]));
    if (largest == 0) continue;
    const double unit = std::ldexp(1, std::ilogb(largest) - 13);
    sum = std::trunc(sum / unit) * unit;
    for (std::size_t i = s; i < next; ++i) sum += std::trunc(a[i] * b[i] / unit) * unit;
  }
  return sum;
}

TEST(LinearHopper, ProductsAreTheDefinition) {
  ThreadPool pool(2);
  Random random(1);
  constexpr std::int64_t rows = 150, in = 205, out = 170;
  Float8 x(DType::e4m3_rows, 0, rows, in), w(DType::e4m3_panels, 0, out, in), dy(DType::e4m3_rows, 0, rows, out);
  const auto groups = test::group_of_rows({}, rows, {}, 128);
  Columns xc({rows, in}, groups, 128), dyc({rows, out}, groups, 128);
  x.randomise(random), w.randomise(random), dy.randomise(random), xc.randomise(random), dyc.randomise(random);
  for (const Isa isa : isas()) {
    const Stream stream(pool, isa);
    TypedBuffer y({rows, out}, DType::f32), dx({rows, in}, DType::f32), dw({out, in}, DType::f32);
    linear_forward(stream, x.tensor(), w.tensor(), y.tensor(), {}, 1, hopper);
    linear_backward_input(stream, dy.tensor(), w.tensor(), dx.tensor(), {}, 1, hopper);
    linear_backward_weight(stream, dyc.scaled(), xc.scaled(), dw.fill_zero().tensor(), {}, hopper);
    const auto expect = [&](TypedBuffer& got, std::int64_t at, std::int64_t count, auto a, auto b) {
      std::vector<double> qa, qb;
      for (std::int64_t s = 0; s < count; ++s)
        qa.push_back(test::e4m3_value(a(s).first)), qb.push_back(test::e4m3_value(b(s).first));
      float sum = 0;
      for (std::int64_t s = 0; s < count; s += 128) {
        const double p =
            aligned_sum(qa, qb, static_cast<std::size_t>(s), static_cast<std::size_t>(std::min(count, s + 128)));
        sum = std::fma(a(s).second * b(s).second, static_cast<float>(p), sum);
      }
      ASSERT_EQ(got.data<float>()[at], sum) << name_of(isa);
    };
    for (int trial = 0; trial < 200; ++trial) {
      const std::int64_t m = test::pick(random, 0, rows - 1), n = test::pick(random, 0, out - 1),
                         k = test::pick(random, 0, in - 1);
      const auto of = [](Float8& t, std::int64_t i) { return std::pair(t.q(i), t.scale(i)); };
      const auto of_columns = [](Columns& t, std::int64_t i, std::int64_t j) {
        return std::pair(t.q(i, j), t.scale(i, j));
      };
      expect(
          y, m * out + n, in, [&](auto s) { return of(x, m * in + s); }, [&](auto s) { return of(w, n * in + s); });
      expect(
          dx, m * in + k, out, [&](auto s) { return of(dy, m * out + s); }, [&](auto s) { return of(w, s * in + k); });
      expect(
          dw, n * in + k, rows, [&](auto s) { return of_columns(dyc, s, n); },
          [&](auto s) { return of_columns(xc, s, k); });
    }
  }
}

/// |y - exact| / |exact| over all elements, and the largest of one element relative to the root mean square.
struct Errors {
  double relative, largest;
};
Errors errors_of(TypedBuffer& y, TypedBuffer& exact) {
  double error = 0, norm = 0, largest = 0;
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const double e = y.get(i) - exact.get(i);
    error += e * e, norm += exact.get(i) * exact.get(i), largest = std::max(largest, std::abs(e));
  }
  return {std::sqrt(error / norm), largest / std::sqrt(norm / static_cast<double>(y.size()))};
}

TEST(LinearHopper, PromotionIsWhatKeepsLongSumsRight) {
  ThreadPool pool(2);
  const Stream stream(pool);
  Random random(3);
  constexpr std::int64_t rows = 24, K = 4096, N = 24;
  for (const bool positive : {false, true}) {
    TypedBuffer a({rows, K}, DType::f64), b({N, K}, DType::f64);
    a.fill(random), b.fill(random);
    Float8 x(DType::e4m3_rows, 0, rows, K), w(DType::e4m3_panels, 0, N, K);
    x.quantise(a), w.quantise(b);
    for (std::int64_t i = 0; i < x.size(); ++i) x.set_scale(i, 0x1p-7F), w.set_scale(i, 0x1p-7F);
    TypedBuffer x64({rows, K}, DType::f64), w64({N, K}, DType::f64), exact({rows, N}, DType::f64);
    for (std::int64_t i = 0; i < x.size(); ++i) {
      if (positive) x.q(i) &= 127, w.q(i) &= 127;
      x64.set(i, x.value(0, i)), w64.set(i, w.value(0, i));
    }
    linear_forward(stream, x64.tensor(), w64.tensor(), exact.tensor());
    const auto errors = [&](const Float8Sum& sum) {
      TypedBuffer y({rows, N}, DType::f32);
      linear_forward(stream, x.tensor(), w.tensor(), y.tensor(), {}, 1, sum);
      return errors_of(y, exact);
    };
    const Errors f32 = errors({}), promoted = errors(hopper), whole = errors(unpromoted);
    EXPECT_LT(f32.largest, 1e-6);
    EXPECT_LT(promoted.largest, 1e-3);
    EXPECT_GT(promoted.relative, 1e-5);
    // Signed terms: 0.65% of a typical sum; what is cut from positive ones adds up: 7%.
    EXPECT_GT(whole.largest, positive ? 0.05 : 4e-3);
    EXPECT_LT(whole.largest, positive ? 0.1 : 1e-2);
  }
}

TEST(LinearHopper, WhatItCannotImitateIsRefused) {
  ThreadPool pool(1);
  const Stream stream(pool);
  Random random(4);
  Float8 x(DType::e4m3_rows, 0, 4, 256), w(DType::e4m3_panels, 0, 8, 256), mx(DType::mxe4m3_rows, 0, 4, 256),
      mx_w(DType::mxe4m3_rows, 0, 8, 256);
  x.randomise(random), w.randomise(random), mx.randomise(random), mx_w.randomise(random);
  TypedBuffer x16({4, 256}, DType::bf16), w16({8, 256}, DType::bf16), y({4, 8}, DType::f32);
  x16.fill(random), w16.fill(random);
  const auto forward = [&](const Tensor& a, const Tensor& b, const Float8Sum& sum) {
    linear_forward(stream, a, b, y.tensor(), {}, 1, sum);
  };
  forward(x.tensor(), w.tensor(), hopper);
  EXPECT_THROW(forward(x.tensor(), w.tensor(), unpromoted), Error);  // scales differ
  for (std::int64_t i = 0; i < x.size(); ++i) x.set_scale(i, 2);
  for (std::int64_t i = 0; i < w.size(); ++i) w.set_scale(i, 3);
  forward(x.tensor(), w.tensor(), unpromoted);
  for (const std::int64_t promotion : {-128, 32, 100})
    EXPECT_THROW(forward(x.tensor(), w.tensor(), {Float8Sum::Accumulator::hopper, promotion}), Error);
  EXPECT_THROW(forward(x.tensor(), w.tensor(), {Float8Sum::Accumulator::f32, 256}), Error);
  EXPECT_THROW(forward(mx.tensor(), mx_w.tensor(), hopper), Error);
  EXPECT_THROW(forward(x16.tensor(), w16.tensor(), hopper), Error);
}

}  // namespace
}  // namespace fourmi
