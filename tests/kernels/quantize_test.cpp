#include "kernels/ops/quantize.h"

#include <gtest/gtest.h>

#include "kernels/cpu/scaled_groups.h"
#include "tests/kernels/scaled_test_data.h"

namespace fourmi {
namespace {

using namespace test;

struct Case {
  DType input, output;
  Shape shape;
  Scaling scaling;
  Values values;
};

/// Every element and scale against the definition; the group of (row, column) is [rows of it] x [columns of it].
void expect_definition(const Buffer& x, const Buffer& q, const Scaling& scaling) {
  const bool panels = q->dtype == DType::e4m3_panels, mx = q->dtype == DType::mxe4m3_rows;
  const std::int64_t K = q->dim(q->shape.rank - 1), M = K ? q->num_elements() / K : 0;
  const std::int64_t N = panels ? q->dim(q->shape.rank - 2) : M, width = mx ? 32 : 128, height = panels ? 128 : 1;
  for (std::int64_t row = 0; row < M; row += std::min(height, N - row % N))
    for (std::int64_t column = 0; column < K; column += width) {
      const std::int64_t rows = std::min(height, N - row % N), columns = std::min(width, K - column);
      std::vector<float> group;
      for (std::int64_t r = row; r < row + rows; ++r)
        for (std::int64_t c = column; c < column + columns; ++c) group.push_back(static_cast<float>(x.get(r * K + c)));
      const float s = scale_in_double(amax_of(group, scaling.floor), mx || scaling.kind == ScaleKind::power_of_two);
      ASSERT_TRUE(same_float(element_scale(q, row, column), s)) << row << " " << column << " " << s;
      for (std::int64_t r = row, i = 0; r < row + rows; ++r)
        for (std::int64_t c = column; c < column + columns; ++c, ++i)
          ASSERT_EQ(element_at(q, r, c), element_of(group[static_cast<std::size_t>(i)], s)) << r << " " << c;
    }
  if (panels) return;
  for (std::int64_t row = 0; row < M; ++row) {
    const auto* bytes = static_cast<const std::uint8_t*>(q->data) + row * ScaledFormat::row_bytes(q->dtype, K);
    const std::int64_t used = K + (mx ? (K + 31) / 32 : (K + 127) / 128 * 4);
    for (std::int64_t i = used; i < ScaledFormat::row_bytes(q->dtype, K); ++i) ASSERT_EQ(bytes[i], 0) << "padding";
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const DType input : {DType::f32, DType::bf16})
    for (const Values values : all_values)
      for (const Scaling scaling : {Scaling{}, Scaling{ScaleKind::power_of_two, 0}, Scaling{ScaleKind::f32, 1e-4F}}) {
        for (const std::int64_t K : {1, 31, 32, 33, 127, 128, 129, 256, 600})
          for (const DType rows : {DType::e4m3_rows, DType::mxe4m3_rows})
            all.push_back({input, rows, {3, K}, scaling, values});
        for (const Shape shape : {Shape{1, 1}, Shape{130, 140}, Shape{2, 129, 33}, Shape{3, 5, 300}, Shape{128, 128}})
          all.push_back({input, DType::e4m3_panels, shape, scaling, values});
      }
  all.push_back({DType::bf16, DType::e4m3_rows, {3, 128 * 33 + 5}, {}, Values::wide});  // more than most_groups
  all.push_back({DType::bf16, DType::mxe4m3_rows, {3, 32 * 33 + 5}, {}, Values::wide});
  all.push_back({DType::f32, DType::e4m3_panels, {2, 1024 + 200}, {}, Values::wide});  // more than a strip
  all.push_back({DType::f32, DType::e4m3_rows, {0, 128}, {}, Values::normal});
  all.push_back({DType::f32, DType::e4m3_panels, {0, 128}, {}, Values::normal});
  return all;
}

TEST(Quantize, IsTheDefinitionOnEveryIsa) {
  Random random(1);
  for (const Case& c : cases()) {
    const Buffer x = drawn(random, c.input, c.shape, c.values);
    SCOPED_TRACE(::testing::Message() << name_of(c.input) << " to " << name_of(c.output) << to_string(c.shape)
                                      << " values " << static_cast<int>(c.values));
    on_every_stream([&](const Stream& stream) {
      Buffer q(c.output, c.shape);
      quantize(stream, x, q, c.scaling);
      expect_definition(x, q, c.scaling);
    });
    if (HasFatalFailure()) return;
  }
}

TEST(Quantize, ScalesFromBitsAreThoseOfTheRule) {
  for (const ScaleKind kind : {ScaleKind::f32, ScaleKind::power_of_two}) {
    const auto check = [kind](std::uint32_t bits) {
      const float s = scale_of_amax(std::bit_cast<float>(bits), kind);
      const float8::GroupScale g = float8::scale_of_bits(bits, kind);
      ASSERT_TRUE(same_float(g.scale, s) && same_float(g.inverse, 1 / s)) << bits;
    };
    for (std::uint32_t mantissa = 0; mantissa < 1u << 23; ++mantissa) check(127u << 23 | mantissa);
    for (std::uint32_t exponent = 0; exponent < 256; ++exponent)
      for (const std::uint32_t mantissa : {0u, 1u, 0x400000u, 0x5fffffu, 0x600000u, 0x600001u, 0x7fffffu})
        check(exponent << 23 | mantissa);
  }
}

TEST(Quantize, OneScaleForARunOfRows) {
  Random random(2);
  const std::int32_t rows_runs[] = {1, 1, 4, 7}, panel_runs[] = {0, 128, 130, 260};
  for (const Values values : all_values)
    for (const DType output : {DType::e4m3_rows, DType::mxe4m3_rows, DType::e4m3_panels})
      for (const DType input : {DType::f32, DType::bf16}) {
        const bool panels = output == DType::e4m3_panels;
        const Shape shape = panels ? Shape{2, 130, 70} : Shape{9, 140};
        const std::span<const std::int32_t> runs = panels ? panel_runs : rows_runs;
        const std::int64_t K = shape[shape.rank - 1];
        const Buffer x = drawn(random, input, shape, values);
        on_every_stream([&](const Stream& stream) {
          const Scaling scaling{.kind = ScaleKind::f32, .floor = values == Values::normal ? 100.0F : 0.0F};
          Buffer q(output, shape), amax(DType::f32, {3});
          const Buffer untouched = q;
          largest_magnitudes(stream, x, runs, amax);
          quantize_by(stream, x, q, scaling, runs, amax);
          for (std::size_t run = 0; run < 3; ++run) {
            std::vector<float> elements;
            for (std::int64_t i = runs[run] * K; i < runs[run + 1] * K; ++i)
              elements.push_back(static_cast<float>(x.get(i)));
            const float most = amax_of(elements, 0);
            // NaN and infinity alike make the scale NaN.
            ASSERT_TRUE(amax.at<float>(static_cast<std::int64_t>(run)) == most ||
                        !(most < std::numeric_limits<float>::infinity()));
            const float s = scale_in_double(std::max(most, scaling.floor), output == DType::mxe4m3_rows);
            for (std::int64_t r = runs[run]; r < runs[run + 1]; ++r)
              for (std::int64_t c = 0; c < K; ++c) {
                ASSERT_TRUE(same_float(element_scale(q, r, c), s)) << r << " " << c;
                ASSERT_EQ(element_at(q, r, c), element_of(static_cast<float>(x.get(r * K + c)), s));
              }
          }
          for (std::int64_t r = 0; r < 9 && !panels; r += r == 0 ? 7 : 1)
            EXPECT_TRUE(same_bytes(q->rows(r, r + 1), untouched->rows(r, r + 1)));
        });
        if (HasFatalFailure()) return;
      }
}

TEST(QuantizeBlocks, RowsShareTheScalesOfSquares) {
  Random random(11);
  for (const Values values : all_values)
    for (const Shape shape : {Shape{1, 1}, Shape{130, 300}, Shape{257, 128}, Shape{2, 128 * 33 + 5}, Shape{0, 128}})
      for (const DType input : {DType::f32, DType::bf16})
        for (const Scaling scaling : {Scaling{}, Scaling{ScaleKind::power_of_two, 0.5F}}) {
          const std::int64_t M = shape[0], K = shape[1];
          const Buffer x = drawn(random, input, shape, values);
          on_every_stream([&](const Stream& stream) {
            Buffer q(DType::e4m3_rows, shape), counted(DType::e4m3_rows, shape);
            quantize_blocks(stream, x, q, scaling);
            QuantizeStatistics stats;
            quantize_blocks(stream, x, counted, scaling, &stats);
            EXPECT_TRUE(q == counted);
            EXPECT_EQ(stats.num_elements, M * K);
            for (std::int64_t row = 0; row < M; row += 128)
              for (std::int64_t column = 0; column < K; column += 128) {
                const std::int64_t past = std::min(M, row + 128), end = std::min(K, column + 128);
                std::vector<float> block;
                for (std::int64_t r = row; r < past; ++r)
                  for (std::int64_t c = column; c < end; ++c) block.push_back(static_cast<float>(x.get(r * K + c)));
                const float s = scale_in_double(amax_of(block, scaling.floor), scaling.kind == ScaleKind::power_of_two);
                std::size_t i = 0;
                for (std::int64_t r = row; r < past; ++r) {
                  ASSERT_TRUE(same_float(element_scale(q, r, column), s)) << r << " " << column;
                  for (std::int64_t c = column; c < end; ++c)
                    ASSERT_EQ(element_at(q, r, c), element_of(block[i++], s)) << r << " " << c;
                }
              }
          });
          if (HasFatalFailure()) return;
        }
  ThreadPool pool(1);
  const Buffer x(DType::f32, {2, 32});
  EXPECT_ANY_THROW(quantize_blocks(Stream(pool), x, Buffer(DType::mxe4m3_rows, {2, 32}), {}));
  EXPECT_ANY_THROW(quantize_blocks(Stream(pool), x, Buffer(DType::e4m3_rows, {2, 33}), {}));
}

TEST(Quantize, SaturatesWhereTheGivenAmaxIsTooSmall) {
  const std::int32_t runs[] = {0, 3};
  Random random(9);
  for (const DType input : {DType::f32, DType::bf16}) {
    const Buffer x = drawn(random, input, {3, 200}, Values::wide), amax(DType::f32, {1}, {448.0});
    on_every_stream([&](const Stream& stream) {
      Buffer q(DType::e4m3_rows, {3, 200});
      quantize_by(stream, x, q, {}, runs, amax);
      for (std::int64_t i = 0; i < 600; ++i)
        ASSERT_EQ(element_at(q, i / 200, i % 200), element_of(static_cast<float>(x.get(i)), 1)) << x.get(i);
    });
  }
}

TEST(Quantize, RefusesRunsInsideABlock) {
  ThreadPool pool(1);
  const std::int32_t runs[] = {0, 64};
  Buffer x(DType::f32, {256, 4}), q(DType::e4m3_panels, {256, 4}), amax(DType::f32, {1}, {1.0});
  EXPECT_ANY_THROW(quantize_by(Stream(pool), x, q, {}, runs, amax));
  EXPECT_ANY_THROW(quantize(Stream(pool), x, Buffer(DType::e4m3_rows, {256, 5}), {}));
  EXPECT_ANY_THROW(quantize(Stream(pool), x, Buffer(DType::f32, {256, 4}), {}));
}

TEST(Dequantize, IsElementTimesScaleOnEveryIsa) {
  Random random(3);
  for (const DType output : {DType::e4m3_rows, DType::mxe4m3_rows, DType::e4m3_panels})
    for (const Values values : all_values)
      for (const ScaleKind kind : {ScaleKind::f32, ScaleKind::power_of_two}) {
        const Shape shape = output == DType::e4m3_panels ? Shape{2, 130, 300} : Shape{5, 300};
        const Buffer x = drawn(random, DType::f32, shape, values);
        on_every_stream([&](const Stream& stream) {
          Buffer q(output, shape), y(DType::f32, shape), b(DType::bf16, shape);
          quantize(stream, x, q, {.kind = kind});
          if (values == Values::normal)  // NaN elements beside a good scale: not ours, but they must not become numbers
            static_cast<std::uint8_t*>(q->data)[37] = 0x7f, static_cast<std::uint8_t*>(q->data)[2] = 0xff;
          dequantize(stream, q, y);
          dequantize(stream, q, b);
          for (std::int64_t i = 0; i < y.size(); ++i) {
            const std::int64_t r = i / 300, c = i % 300;
            const auto element = static_cast<float>(float8_e4m3::from_bits(element_at(q, r, c)));
            const float want = element * element_scale(q, r, c);
            ASSERT_TRUE(same_float(y.at<float>(i), want)) << i;
            ASSERT_TRUE(want != want ? b.get(i) != b.get(i) : b.at<bfloat16>(i).bits == bfloat16(want).bits) << i;
            const bool exact = kind == ScaleKind::power_of_two && std::fabs(want) >= 0x1p-120F;
            ASSERT_TRUE(!exact || b.get(i) == static_cast<double>(want)) << want;
          }
        });
        if (HasFatalFailure()) return;
      }
}

TEST(QuantizeStatistics, AreTheDefinitionAndChangeNothing) {
  Random random(4);
  for (const DType output : {DType::e4m3_rows, DType::mxe4m3_rows, DType::e4m3_panels})
    for (const Values values : all_values) {
      const Shape shape{150, 200};
      const Buffer x = drawn(random, DType::bf16, shape, values);
      ThreadPool one(1);
      Buffer expected(output, shape);
      quantize(Stream(one, Isa::portable), x, expected, {});
      QuantizeStatistics first;
      bool any = false;
      on_every_stream([&](const Stream& stream) {
        Buffer q(output, shape);
        QuantizeStatistics s;
        s.num_elements = 5;  // calls add
        quantize(stream, x, q, {}, &s);
        EXPECT_TRUE(q == expected);
        s.num_elements -= 5;
        if (any) {
          EXPECT_EQ(std::bit_cast<std::uint64_t>(s.squared_error), std::bit_cast<std::uint64_t>(first.squared_error));
          EXPECT_EQ(std::bit_cast<std::uint64_t>(s.squares), std::bit_cast<std::uint64_t>(first.squares));
        }
        first = s, any = true;
        std::int64_t saturated = 0, underflows = 0, not_finite = 0;
        double error = 0, squares = 0, amax = 0;
        for (std::int64_t i = 0; i < x.size(); ++i) {
          const std::uint8_t e = element_at(q, i / 200, i % 200) & 0x7f;
          const double scale = static_cast<double>(element_scale(q, i / 200, i % 200)), v = x.get(i);
          saturated += e == 0x7e, underflows += e == 0 && v != 0, not_finite += scale != scale;
          amax = amax != amax || v != v ? std::nan("") : std::max(amax, std::fabs(v));
          if (scale != scale) continue;
          const auto d = static_cast<double>(float8_e4m3::from_bits(element_at(q, i / 200, i % 200))) * scale;
          error += (d - v) * (d - v), squares += v * v;
        }
        EXPECT_EQ(s.num_elements, x.size());
        EXPECT_EQ(s.num_saturated, saturated);
        EXPECT_EQ(s.num_underflows, underflows);
        EXPECT_EQ(s.num_not_finite, not_finite);
        EXPECT_TRUE(same_float(s.amax, static_cast<float>(amax)));
        EXPECT_NEAR(s.squared_error, error, 1e-9 * error);
        EXPECT_NEAR(s.squares, squares, 1e-9 * squares);
        if (values == Values::normal) {
          EXPECT_LT(s.squared_error / s.squares, 1.5e-3);  // a relative error of about 2^-5 of an element
          EXPECT_GT(s.squared_error / s.squares, 1e-4);
          EXPECT_GE(s.num_saturated, output == DType::e4m3_rows ? 300 : output == DType::e4m3_panels ? 4 : 0);
        }
      });
    }
}

}  // namespace
}  // namespace fourmi
