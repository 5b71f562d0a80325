#include <gtest/gtest.h>

#include "kernels/ops/quantize.h"
#include "tests/device/stream.h"
#include "tests/kernels/scaled_test_data.h"

namespace fourmi {
namespace {

using namespace test;

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
      on_streams_under_test([&](const Stream& stream) {
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

/// Of rows in runs alone; on a card the call counts in another order, and gives the same bits again.
TEST(QuantizeStatistics, OfRunsOfRows) {
  Random random(15);
  const std::int32_t runs[] = {2, 5, 5, 90};
  for (const DType output : {DType::e4m3_rows, DType::mxe4m3_rows})
    for (const Values values : {Values::normal, Values::sparse, Values::bad}) {
      const Shape shape{100, 150};
      const Buffer x = drawn(random, DType::f32, shape, values), amax(DType::f32, {3});
      ThreadPool pool(1);
      largest_magnitudes(Stream(pool), x, runs, amax);
      amax.fill([&](std::int64_t i) { return amax.get(i) / 2; });  // too small: elements saturate
      QuantizeStatistics expected;
      Buffer expected_q(output, shape);
      quantize_by(Stream(pool), x, expected_q, {}, runs, amax, &expected);
      on_streams_under_test([&](const Stream& stream) {
        QuantizeStatistics s[2];
        for (QuantizeStatistics& one : s) {
          Buffer q(output, shape);
          quantize_by(stream, x, q, {}, runs, amax, &one);
          EXPECT_TRUE(q == expected_q);
        }
        EXPECT_EQ(s[0].num_elements, expected.num_elements);
        EXPECT_EQ(s[0].num_saturated, expected.num_saturated);
        EXPECT_EQ(s[0].num_underflows, expected.num_underflows);
        EXPECT_EQ(s[0].num_not_finite, expected.num_not_finite);
        EXPECT_TRUE(same_float(s[0].amax, expected.amax));
        EXPECT_NEAR(s[0].squared_error, expected.squared_error, 1e-12 * expected.squared_error);
        EXPECT_NEAR(s[0].squares, expected.squares, 1e-12 * expected.squares);
        EXPECT_EQ(s[0].squared_error, s[1].squared_error);
        EXPECT_EQ(s[0].squares, s[1].squares);
      });
    }
}

}  // namespace
}  // namespace fourmi
