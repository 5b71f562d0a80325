// Products of e4m3 elements against their values in double, against the order of operations written out, and against
// the product of what was quantised.
#include <gtest/gtest.h>

#include <functional>

#include "tests/device/stream.h"
#include "tests/hopper/card.h"
#include "tests/kernels/linear_streams.h"

namespace fourmi {
namespace {

using test::TypedBuffer;
using Columns = test::ColumnsHere;
using test::Float8;
using test::isas_here;
using test::pick;
using test::Random;
using test::stream_on;
using test::Style;

struct Sizes {
  std::int64_t rows, in, out;
};
constexpr Sizes sizes[] = {{1, 1, 1}, {13, 7, 33}, {12, 128, 32}, {5, 321, 17}, {3, 130, 257}, {130, 40, 129}};

template <class F>
void expect_near(TypedBuffer& got, std::int64_t cols, std::int64_t count, DType out, F term,
                 TypedBuffer* residual = nullptr) {
  for (std::int64_t i = 0; i < got.size(); ++i) {
    double value = residual ? residual->get(i) : 0, magnitude = std::abs(value);
    for (std::int64_t s = 0; s < count; ++s) {
      const double t = term(i / cols, i % cols, s);
      value += t, magnitude += std::abs(t);
    }
    const double rounding = static_cast<double>(count + 4) * test::looseness(DType::bf16) * 0x1p-24 +
                            (out == DType::bf16 ? 0x1p-8 : 0x1p-24) + (test::on_card() ? test::hopper_cut : 0);
    ASSERT_NEAR(got.get(i), value, magnitude * rounding) << i;
  }
}

TEST(LinearFloat8, ProductsAreTheFormula) {
  ThreadPool pool(2);
  Random random(1);
  for (const Isa isa : isas_here())
    for (const bool mx : {false, true})
      for (const Sizes& s : sizes)
        for (const DType out : {DType::bf16, DType::f32}) {
          const Stream stream = stream_on(pool, isa);
          SCOPED_TRACE(fmt::format("{} mx {} {}x{}x{} {}", name_of(isa), mx, s.rows, s.in, s.out, name_of(out)));
          const DType rows = mx ? DType::mxe4m3_rows : DType::e4m3_rows;
          Float8 x(rows, 0, s.rows, s.in), dy(rows, 0, s.rows, s.out);
          Float8 w(mx ? rows : DType::e4m3_panels, 0, s.out, s.in);
          x.randomise(random), dy.randomise(random), w.randomise(random);
          TypedBuffer y({s.rows, s.out}, out), dx({s.rows, s.in}, out), r({s.rows, s.out}, out);
          r.fill(random);
          linear_forward(stream, x.tensor(), w.tensor(), y.tensor());
          expect_near(y, s.out, s.in, out, [&](auto i, auto j, auto k) { return x.value(i, k) * w.value(j, k); });
          linear_forward(stream, x.tensor(), w.tensor(), y.tensor(), r.tensor());
          expect_near(
              y, s.out, s.in, out, [&](auto i, auto j, auto k) { return x.value(i, k) * w.value(j, k); }, &r);
          if (mx) {
            Columns across({s.out, s.in}, test::group_of_rows({}, s.out, {}, 32), 32);
            across.randomise(random);
            linear_backward_input(stream, dy.tensor(), across.scaled(), dx.tensor());
            expect_near(dx, s.in, s.out, out,
                        [&](auto i, auto k, auto n) { return dy.value(i, n) * across.value(n, k); });
          } else {
            linear_backward_input(stream, dy.tensor(), w.tensor(), dx.tensor());
            expect_near(dx, s.in, s.out, out, [&](auto i, auto k, auto n) { return dy.value(i, n) * w.value(n, k); });
          }
          const auto groups = test::group_of_rows({}, s.rows, {}, mx ? 32 : 128);
          Columns dy_columns({s.rows, s.out}, groups, mx ? 32 : 128), x_columns({s.rows, s.in}, groups, mx ? 32 : 128);
          dy_columns.randomise(random), x_columns.randomise(random);
          TypedBuffer dw({s.out, s.in}, DType::f32);
          dw.fill(random);
          TypedBuffer before = dw;
          linear_backward_weight(stream, dy_columns.scaled(), x_columns.scaled(), dw.tensor());
          expect_near(
              dw, s.in, s.rows, DType::f32,
              [&](auto n, auto k, auto m) { return dy_columns.value(m, n) * x_columns.value(m, k); }, &before);
          if (HasFailure()) return;
        }
}

/// docs/numerics.md "FP8 products", one element: chains of 128 from +0, odd element first, promoted by one fma each.
float promoted(std::int64_t count, const std::function<float(std::int64_t)>& a,
               const std::function<float(std::int64_t)>& b, const std::function<float(std::int64_t)>& a_scale,
               const std::function<float(std::int64_t)>& b_scale) {
  float sum = 0;
  for (std::int64_t begin = 0; begin < count; begin += 128) {
    const std::int64_t end = std::min(count, begin + 128);
    float chain = 0;
    for (std::int64_t s = begin; s < end; s += 2) {
      if (s + 1 < end) chain = std::fma(a(s + 1), b(s + 1), chain);
      chain = std::fma(a(s), b(s), chain);
    }
    const float f = a_scale(begin) * b_scale(begin);
    sum = std::fma(f, chain, sum);
  }
  return sum;
}

TEST(LinearFloat8, OrderIsTheDefinition) {
  if (test::on_card()) GTEST_SKIP() << "the order of a chain is the CPU's";
  ThreadPool pool(1);
  Random random(2);
  const auto value = [](std::uint8_t q) { return static_cast<float>(test::e4m3_value(q)); };
  constexpr std::int64_t rows = 291, in = 389, out = 277;  // rows of a weight gradient, too
  Float8 x(DType::e4m3_rows, 0, rows, in), w(DType::e4m3_panels, 0, out, in), dy(DType::e4m3_rows, 0, rows, out);
  x.randomise(random), w.randomise(random), dy.randomise(random);
  const auto groups = test::group_of_rows({}, rows, {}, 128);
  Columns dyc({rows, out}, groups, 128), xc({rows, in}, groups, 128);
  dyc.randomise(random), xc.randomise(random);
  for (const Isa isa : isas_here()) {
    const Stream stream = stream_on(pool, isa);
    TypedBuffer y({rows, out}, DType::f32), dx({rows, in}, DType::f32), dw({out, in}, DType::f32);
    linear_forward(stream, x.tensor(), w.tensor(), y.tensor());
    linear_backward_input(stream, dy.tensor(), w.tensor(), dx.tensor());
    linear_backward_weight(stream, dyc.scaled(), xc.scaled(), dw.fill_zero().tensor());
    for (int trial = 0; trial < 500; ++trial) {
      const std::int64_t m = pick(random, 0, rows - 1), n = pick(random, 0, out - 1), k = pick(random, 0, in - 1);
      ASSERT_EQ(y.data<float>()[m * out + n],
                promoted(
                    in, [&](auto s) { return value(x.q(m * in + s)); }, [&](auto s) { return value(w.q(n * in + s)); },
                    [&](auto s) { return x.scale(m * in + s); }, [&](auto s) { return w.scale(n * in + s); }))
          << name_of(isa);
      ASSERT_EQ(
          dx.data<float>()[m * in + k],
          promoted(
              out, [&](auto s) { return value(dy.q(m * out + s)); }, [&](auto s) { return value(w.q(s * in + k)); },
              [&](auto s) { return dy.scale(m * out + s); }, [&](auto s) { return w.scale(s * in + k); }))
          << name_of(isa);
      ASSERT_EQ(dw.data<float>()[n * in + k],
                promoted(
                    rows, [&](auto s) { return value(dyc.q(s, n)); }, [&](auto s) { return value(xc.q(s, k)); },
                    [&](auto s) { return dyc.scale(s, n); }, [&](auto s) { return xc.scale(s, k); }))
          << name_of(isa);
    }
  }
}

TEST(LinearFloat8, MxIsTheBf16ProductOfItsValues) {
  ThreadPool pool(1);
  Random random(3);
  for (const Isa isa : isas_here())
    for (const Style style : {Style::plain, Style::denormal, Style::extreme, Style::wild_scales}) {
      const Stream stream = stream_on(pool, isa);
      constexpr std::int64_t rows = 45, in = 167, out = 71;
      const auto groups = test::group_of_rows({}, rows, {}, 32);
      Float8 x(DType::mxe4m3_rows, 0, rows, in), w(DType::mxe4m3_rows, 0, out, in),
          dy(DType::mxe4m3_rows, 0, rows, out);
      Columns across({out, in}, test::group_of_rows({}, out, {}, 32), 32), dyc({rows, out}, groups, 32),
          xc({rows, in}, groups, 32);
      x.randomise(random, style), w.randomise(random, style), dy.randomise(random, style);
      across.randomise(random, style), dyc.randomise(random, style), xc.randomise(random, style);
      const auto widened = [](std::int64_t n, std::int64_t k, auto& from) {
        TypedBuffer b({n, k}, DType::bf16);
        for (std::int64_t i = 0; i < n * k; ++i) b.set(i, from.value(i / k, i % k));
        return b;
      };
      TypedBuffer x16 = widened(rows, in, x), w16 = widened(out, in, w), dy16 = widened(rows, out, dy),
                  across16 = widened(out, in, across), dyc16 = widened(rows, out, dyc), xc16 = widened(rows, in, xc);
      TypedBuffer y({rows, out}, DType::f32), y2 = y, dx({rows, in}, DType::f32), dx2 = dx, dw({out, in}, DType::f32);
      TypedBuffer dw2 = dw.fill_zero();
      linear_forward(stream, x.tensor(), w.tensor(), y.tensor());
      linear_forward(stream, x16.tensor(), w16.tensor(), y2.tensor());
      EXPECT_TRUE(test::same(y, y2)) << name_of(isa) << " " << static_cast<int>(style);
      linear_backward_input(stream, dy.tensor(), across.scaled(), dx.tensor());
      linear_backward_input(stream, dy16.tensor(), across16.tensor(), dx2.tensor());
      EXPECT_TRUE(test::same(dx, dx2)) << name_of(isa) << " " << static_cast<int>(style);
      linear_backward_weight(stream, dyc.scaled(), xc.scaled(), dw.tensor());
      linear_backward_weight(stream, dyc16.tensor(), xc16.tensor(), dw2.tensor());
      EXPECT_TRUE(test::same(dw, dw2)) << name_of(isa) << " " << static_cast<int>(style);
    }
}

/// 1 - 2 <x, y> / (|x|^2 + |y|^2)
double calc_diff(TypedBuffer& x, TypedBuffer& y) {
  double xy = 0, norms = 0;
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const double a = x.get(i), b = y.get(i);
    xy += a * b, norms += a * a + b * b;
  }
  return 1 - 2 * xy / norms;
}

TEST(LinearFloat8, QuantisedProductsAreCloseOnDeepSeeksShapes) {
  ThreadPool pool(2);
  const Stream cpu(pool), stream = test::stream_of(pool);
  // (N, K) of DeepSeek-V3's linear maps, divided by 8: q_a, q_b, kv_a, kv_b, o, gate or up, down.
  const std::int64_t rows = test::on_card() ? 128 : 150;  // on a card that is emulated tiles take their time
  constexpr std::pair<std::int64_t, std::int64_t> shapes[] = {{192, 896},  {3072, 192}, {72, 896}, {4096, 64},
                                                              {896, 2048}, {256, 896},  {896, 256}};
  Random random(4);
  for (const auto& [N, K] : shapes)
    for (const bool mx : {false, true}) {
      const auto filled = [&](std::int64_t n, std::int64_t k, int exponent) {
        TypedBuffer b({n, k}, DType::f64);
        b.fill(random, exponent);
        for (int i = 0; i < 50; ++i) b.data<double>()[pick(random, 0, n * k - 1)] *= 20;  // outliers
        return b;
      };
      TypedBuffer x = filled(rows, K, 0), w = filled(N, K, -6), dy = filled(rows, N, -17);
      TypedBuffer y({rows, N}, DType::f64), dx({rows, K}, DType::f64), dw({N, K}, DType::f64);
      linear_forward(cpu, x.tensor(), w.tensor(), y.tensor());
      linear_backward_input(cpu, dy.tensor(), w.tensor(), dx.tensor());
      linear_backward_weight(cpu, dy.tensor(), x.tensor(), dw.fill_zero().tensor());

      const DType dtype = mx ? DType::mxe4m3_rows : DType::e4m3_rows;
      Float8 x8(dtype, 0, rows, K), dy8(dtype, 0, rows, N), w8(mx ? dtype : DType::e4m3_panels, 0, N, K);
      x8.quantise(x), dy8.quantise(dy), w8.quantise(w);
      const auto groups = test::group_of_rows({}, rows, {}, mx ? 32 : 128);
      Columns xc({rows, K}, groups, mx ? 32 : 128), dyc({rows, N}, groups, mx ? 32 : 128);
      xc.quantise(x), dyc.quantise(dy);
      TypedBuffer y8({rows, N}, DType::bf16), dx8({rows, K}, DType::bf16), dw8({N, K}, DType::f32);
      linear_forward(stream, x8.tensor(), w8.tensor(), y8.tensor());
      if (mx) {
        Columns across({N, K}, test::group_of_rows({}, N, {}, 32), 32);
        across.quantise(w);
        linear_backward_input(stream, dy8.tensor(), across.scaled(), dx8.tensor());
      } else {
        linear_backward_input(stream, dy8.tensor(), w8.tensor(), dx8.tensor());
      }
      linear_backward_weight(stream, dyc.scaled(), xc.scaled(), dw8.fill_zero().tensor());
      for (const double diff : {calc_diff(y8, y), calc_diff(dx8, dx), calc_diff(dw8, dw)}) {
        EXPECT_LT(diff, 1e-3) << N << " x " << K << " mx " << mx;
        EXPECT_GT(diff, 1e-5) << "quantising has an error";
      }
    }
}

}  // namespace
}  // namespace fourmi
