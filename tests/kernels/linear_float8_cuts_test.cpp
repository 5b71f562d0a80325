// Products of e4m3 elements that are cut: partials of weight gradients, leaves, experts; and what is refused.
#include <gtest/gtest.h>

#include "tests/device/stream.h"
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

/// Rows [begin, end) of columns as a call of their own.
Columns part(Columns& from, std::int64_t begin, std::int64_t end, std::int64_t cols, std::int64_t group_rows) {
  Columns p({end - begin, cols}, test::group_of_rows({}, end - begin, {}, group_rows), group_rows);
  for (std::int64_t m = begin; m < end; ++m)
    for (std::int64_t k = 0; k < cols; ++k) p.q(m - begin, k) = from.q(m, k), p.scale(m - begin, k) = from.scale(m, k);
  return p;
}

TEST(LinearFloat8Cuts, PartialsAreCallsOfTheirOwn) {
  if (test::on_card()) GTEST_SKIP() << "cuts are mode layout's";
  ThreadPool pool(2);
  Random random(1);
  constexpr std::int64_t rows = 700, in = 37, out = 19, experts = 3;
  const std::vector<std::int32_t> offsets{0, 300, 300, 690};  // an expert without rows; rows of nobody
  std::vector<std::int32_t> row_token;
  for (const std::int32_t end : {300, 390, 10})
    for (std::int32_t i = 0, token = 0; i < end; ++i)
      row_token.push_back(token += static_cast<std::int32_t>(pick(random, 1, 3)));
  for (const Isa isa : isas_here())
    for (const std::int64_t group_rows : {128, 32})
      for (const std::int64_t cut : {0, 16, 200, 150})
        for (const bool tokens : {false, true})
          for (const DType dtype : {DType::f32, DType::fx128}) {
            const Stream stream = stream_on(pool, isa);
            const Cuts cuts{.rows = cut, .row_token = tokens ? row_token.data() : nullptr};
            const auto groups = test::group_of_rows(offsets, rows, cuts, group_rows);
            Columns dy({rows, out}, groups, group_rows), x({rows, in}, groups, group_rows);
            dy.randomise(random), x.randomise(random);
            TypedBuffer dw({experts, out, in}, dtype);
            dw.fill(random);
            TypedBuffer expected = dw;
            grouped_linear_backward_weight(stream, dy.scaled(), x.scaled(), offsets, dw.tensor(), cuts);
            for (std::int64_t e = 0; e < experts; ++e)
              for (std::int64_t begin = offsets[static_cast<std::size_t>(e)], end = begin;
                   begin < offsets[static_cast<std::size_t>(e) + 1]; begin = end) {
                const auto run = [&](std::int64_t r) {
                  return cut == 0 ? 0 : (tokens ? row_token[static_cast<std::size_t>(r)] : r) / cut;
                };
                while (end < offsets[static_cast<std::size_t>(e) + 1] && run(end) == run(begin)) ++end;
                Columns dy_part = part(dy, begin, end, out, group_rows), x_part = part(x, begin, end, in, group_rows);
                const Tensor into = expected.tensor().rows(e, e + 1).view({out, in});
                linear_backward_weight(stream, dy_part.scaled(), x_part.scaled(), into);
              }
            ASSERT_TRUE(dw == expected) << fmt::format("{} groups of {} cut {} tokens {} {}", name_of(isa), group_rows,
                                                       cut, tokens, name_of(dtype));
          }
}

TEST(LinearFloat8Cuts, GroupedIsPlainPerExpertAndLeavesTheRestAlone) {
  ThreadPool pool(2);
  Random random(2);
  for (const Isa isa : isas_here())
    for (const bool mx : {false, true})
      for (int trial = 0; trial < 8; ++trial) {
        const Stream stream = stream_on(pool, isa);
        const std::int64_t experts = pick(random, 1, 5), rows = pick(random, 1, 150), in = pick(random, 1, 300),
                           out = pick(random, 1, 300);
        const auto offsets = test::random_offsets(random, experts, rows);
        const DType dtype = mx ? DType::mxe4m3_rows : DType::e4m3_rows;
        Float8 x(dtype, 0, rows, in), dy(dtype, 0, rows, out);
        Float8 w(mx ? dtype : DType::e4m3_panels, experts, out, in);
        x.randomise(random), dy.randomise(random), w.randomise(random);
        for (std::int64_t r = offsets.back(); r < rows; ++r) {  // neither read nor written
          for (std::int64_t k = 0; k < in; ++k) x.q(r * in + k) = 0x7f;
          for (std::int64_t n = 0; n < out; ++n) dy.q(r * out + n) = 0x7f;
        }
        std::vector<std::int64_t> groups;
        for (std::int64_t n = 0; n < experts * out; ++n) groups.push_back(n / out * ((out + 31) / 32) + n % out / 32);
        Columns across({experts, out, in}, groups, 32);
        across.randomise(random);
        TypedBuffer y({rows, out}, DType::bf16), dx({rows, in}, DType::bf16), y2 = y, dx2 = dx;
        grouped_linear_forward(stream, x.tensor(), w.tensor(), offsets, y.tensor());
        if (mx)
          grouped_linear_backward_input(stream, dy.tensor(), across.scaled(), offsets, dx.tensor());
        else
          grouped_linear_backward_input(stream, dy.tensor(), w.tensor(), offsets, dx.tensor());
        for (std::int64_t e = 0; e < experts; ++e) {
          const std::int64_t begin = offsets[static_cast<std::size_t>(e)],
                             end = offsets[static_cast<std::size_t>(e) + 1];
          const Tensor we = w.tensor().rows(e, e + 1).view({out, in});
          const Tensor rows_of_dx = dx2.tensor().rows(begin, end);
          linear_forward(stream, x.tensor().rows(begin, end), we, y2.tensor().rows(begin, end));
          Columns across_e = part(across, e * out, (e + 1) * out, in, 32);
          if (mx)
            linear_backward_input(stream, dy.tensor().rows(begin, end), across_e.scaled(), rows_of_dx);
          else
            linear_backward_input(stream, dy.tensor().rows(begin, end), we, rows_of_dx);
        }
        ASSERT_TRUE(y == y2 && dx == dx2) << name_of(isa) << " mx " << mx << " " << trial;
        for (std::int64_t i = 0; i < offsets.back() * out; ++i) ASSERT_FALSE(std::isnan(y.get(i)));
      }
}

TEST(LinearFloat8Cuts, LeavesAreATreeOverProducts) {
  if (test::on_card()) GTEST_SKIP() << "leaves are mode layout's";
  ThreadPool pool(2);
  Random random(3);
  constexpr std::int64_t rows = 30, leaves = 4, leaf = 256, in = leaves * leaf, out = 40;
  for (const Isa isa : isas_here())
    for (const bool mx : {false, true}) {
      const Stream stream = stream_on(pool, isa);
      const DType dtype = mx ? DType::mxe4m3_rows : DType::e4m3_rows, weights = mx ? dtype : DType::e4m3_panels;
      Float8 x(dtype, 0, rows, in), w(weights, 0, out, in);
      x.randomise(random), w.randomise(random);
      TypedBuffer y({rows, out}, DType::f32), uncut = y, expected = y, parts({leaves, rows, out}, DType::f32);
      linear_forward(stream, x.tensor(), w.tensor(), y.tensor(), {}, leaves);
      linear_forward(stream, x.tensor(), w.tensor(), uncut.tensor());
      for (std::int64_t l = 0; l < leaves; ++l) {
        Float8 xl(dtype, 0, rows, leaf), wl(weights, 0, out, leaf);
        const auto copy = [&](Float8& from, Float8& to) {
          for (std::int64_t i = 0; i < to.size(); ++i) {
            const std::int64_t at = i / leaf * in + l * leaf + i % leaf;
            to.q(i) = from.q(at), to.set_scale(i, from.scale(at));
          }
        };
        copy(x, xl), copy(w, wl);
        linear_forward(stream, xl.tensor(), wl.tensor(), parts.tensor().rows(l, l + 1).view({rows, out}));
      }
      for (std::int64_t i = 0; i < y.size(); ++i) {
        const auto p = [&](std::int64_t l) { return parts.data<float>()[l * rows * out + i]; };
        expected.data<float>()[i] = (p(0) + p(1)) + (p(2) + p(3));
      }
      EXPECT_TRUE(y == expected) << name_of(isa) << " mx " << mx;
      EXPECT_FALSE(y == uncut) << "leaves change nothing: the test is blind";
    }
}

TEST(LinearFloat8Cuts, AScaleThatIsNotANumberStaysInItsLine) {
  ThreadPool pool(1);
  Random random(4);
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Isa isa : isas_here())
    for (const bool mx : {false, true}) {
      const Stream stream = stream_on(pool, isa);
      const DType dtype = mx ? DType::mxe4m3_rows : DType::e4m3_rows;
      Float8 x(dtype, 0, 20, 200), w(mx ? dtype : DType::e4m3_panels, 0, 150, 200);
      x.randomise(random), w.randomise(random);
      x.set_scale(7 * 200 + 190, nan);
      for (std::int64_t k = 0; k < 200; ++k) x.q(7 * 200 + k) = 0;  // the scale is enough
      w.set_scale(140 * 200, nan);
      TypedBuffer y({20, 150}, DType::bf16);
      linear_forward(stream, x.tensor(), w.tensor(), y.tensor());
      for (std::int64_t i = 0; i < y.size(); ++i)
        ASSERT_EQ(std::isnan(y.get(i)), i / 150 == 7 || (mx ? i % 150 == 140 : i % 150 >= 128)) << name_of(isa) << i;
      const auto groups = test::group_of_rows({}, 200, {}, mx ? 32 : 128);
      Columns dyc({200, 20}, groups, mx ? 32 : 128), xc({200, 40}, groups, mx ? 32 : 128);
      dyc.randomise(random), xc.randomise(random);
      dyc.scale(150, 3) = nan, xc.scale(10, 33) = nan;
      TypedBuffer dw({20, 40}, DType::f32), fixed({20, 40}, DType::fx128);
      std::int32_t refused = 0;
      linear_backward_weight(stream, dyc.scaled(), xc.scaled(), dw.fill_zero().tensor());
      for (std::int64_t i = 0; i < dw.size(); ++i) ASSERT_EQ(std::isnan(dw.get(i)), i / 40 == 3 || i % 40 == 33);
      if (test::on_card()) continue;  // fx128 is mode layout's
      linear_backward_weight(stream, dyc.scaled(), xc.scaled(), fixed.fill_zero().tensor(), {.refused = &refused});
      EXPECT_EQ(refused, 1);
    }
}

TEST(LinearFloat8Cuts, NothingToSum) {
  ThreadPool pool(1);
  Random random(5);
  for (const Isa isa : isas_here()) {
    const Stream stream = stream_on(pool, isa);
    Float8 x(DType::e4m3_rows, 0, 3, 0), w(DType::e4m3_panels, 0, 5, 0), none(DType::e4m3_rows, 0, 0, 5),
        weights(DType::e4m3_panels, 0, 5, 7);
    weights.randomise(random);
    TypedBuffer y({3, 5}, DType::bf16), zero({3, 5}, DType::bf16), dx({0, 7}, DType::bf16), dw({5, 7}, DType::f32);
    linear_forward(stream, x.tensor(), w.tensor(), y.tensor());
    EXPECT_TRUE(y == zero.fill_zero());
    linear_backward_input(stream, none.tensor(), weights.tensor(), dx.tensor());
    for (std::int64_t i = 0; i < dw.size(); ++i) dw.set(i, -0.0);
    TypedBuffer before = dw;
    Columns dyc({0, 5}, {}, 128), xc({0, 7}, {}, 128);
    linear_backward_weight(stream, dyc.scaled(), xc.scaled(), dw.tensor());
    EXPECT_TRUE(dw == before);
  }
}

TEST(LinearFloat8Cuts, WrongCallsAreRefused) {
  ThreadPool pool(1);
  const Stream stream = test::stream_of(pool);
  Float8 x(DType::e4m3_rows, 0, 4, 256), w(DType::e4m3_panels, 0, 128, 256), mx(DType::mxe4m3_rows, 0, 4, 256),
      mx_w(DType::mxe4m3_rows, 0, 128, 256), dy(DType::e4m3_rows, 0, 4, 128), mx_dy(DType::mxe4m3_rows, 0, 4, 128);
  TypedBuffer y({4, 128}, DType::bf16), dx({4, 256}, DType::bf16), w16({128, 256}, DType::bf16),
      dw({128, 256}, DType::f32), y64({4, 128}, DType::f64);
  linear_forward(stream, x.tensor(), w.tensor(), y.tensor(), {}, test::on_card() ? 1 : 2);
  EXPECT_THROW(linear_forward(stream, x.tensor(), w.tensor(), y.tensor(), {}, 4), Error);  // 64 of a group
  EXPECT_THROW(linear_forward(stream, x.tensor(), w.tensor(), y64.tensor()), Error);
  EXPECT_THROW(linear_forward(stream, x.tensor(), w16.tensor(), y.tensor()), Error);
  EXPECT_THROW(linear_forward(stream, x.tensor(), mx_w.tensor(), y.tensor()), Error);
  EXPECT_THROW(linear_forward(stream, mx.tensor(), w.tensor(), y.tensor()), Error);
  EXPECT_THROW(linear_forward(stream, mx.tensor(), mx_w.tensor(), y.tensor(), {}, 16), Error);  // 16 of 32
  EXPECT_THROW(linear_backward_input(stream, mx_dy.tensor(), mx_w.tensor(), dx.tensor()), Error);
  EXPECT_THROW(linear_backward_weight(stream, dy.tensor(), x.tensor(), dw.tensor()), Error);
  Columns across({128, 256}, test::group_of_rows({}, 128, {}, 32), 32),
      wide({128, 256}, test::group_of_rows({}, 128, {}, 128), 128);
  linear_backward_input(stream, mx_dy.tensor(), across.scaled(), dx.tensor());
  EXPECT_THROW(linear_backward_input(stream, dy.tensor(), across.scaled(), dx.tensor()), Error);
  EXPECT_THROW(linear_backward_input(stream, mx_dy.tensor(), wide.scaled(), dx.tensor()), Error);
  Columns dyc({40, 128}, test::group_of_rows({}, 40, {}, 32), 32),
      xc({40, 256}, test::group_of_rows({}, 40, {}, 32), 32),
      xc128({40, 256}, test::group_of_rows({}, 40, {}, 128), 128);
  linear_backward_weight(stream, dyc.scaled(), xc.scaled(), dw.tensor());
  EXPECT_THROW(linear_backward_weight(stream, dyc.scaled(), xc128.scaled(), dw.tensor()), Error);
  EXPECT_THROW(linear_backward_weight(stream, dyc.scaled(), xc.scaled(), dw.tensor(), {.rows = 8}), Error);  // 5 groups
}

}  // namespace
}  // namespace fourmi
