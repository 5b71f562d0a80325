#include <gtest/gtest.h>

#include "kernels/ops/quantize.h"
#include "tests/device/stream.h"
#include "tests/kernels/scaled_test_data.h"

namespace fourmi {
namespace {

using namespace test;

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
        on_streams_under_test([&](const Stream& stream) {
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

/// Runs of no, one, two and many rows, so that a card's warp, which has four pieces of rows, begins in any of them and
/// goes over several; more runs than 32 and than 32 times 32.
TEST(Quantize, EachRowByTheScaleOfItsRun) {
  Random random(23);
  for (const std::size_t count : {1, 2, 31, 33, 34, 70, 1025, 1100, 4095, 4200}) {
    std::vector<std::int32_t> runs{2};
    while (runs.size() <= count)
      runs.push_back(runs.back() + static_cast<std::int32_t>(random() % 7 == 0 ? 9 : random() % 3));
    const auto num_runs = static_cast<std::int64_t>(count);
    const std::int64_t M = runs.back() + 1, K = count == 70 ? 300 : 8;
    const Buffer x = drawn(random, DType::bf16, {M, K}, Values::normal), amax(DType::f32, {num_runs});
    amax.fill([](std::int64_t i) { return 0.25 + static_cast<double>(i % 97); });
    on_streams_under_test([&](const Stream& stream) {
      Buffer q(DType::e4m3_rows, {M, K});
      quantize_by(stream, x, q, {}, runs, amax);
      for (std::int64_t run = 0; run < num_runs; ++run) {
        const float s = scale_in_double(amax.at<float>(run), false);
        for (std::int64_t r = runs[static_cast<std::size_t>(run)]; r < runs[static_cast<std::size_t>(run) + 1]; ++r)
          for (std::int64_t c = 0; c < K; ++c) {
            ASSERT_TRUE(same_float(element_scale(q, r, c), s)) << count << " runs, row " << r;
            ASSERT_EQ(element_at(q, r, c), element_of(static_cast<float>(x.get(r * K + c)), s));
          }
      }
    });
    if (HasFatalFailure()) return;
  }
}

TEST(Quantize, SaturatesWhereTheGivenAmaxIsTooSmall) {
  const std::int32_t runs[] = {0, 3};
  Random random(9);
  for (const DType input : {DType::f32, DType::bf16}) {
    const Buffer x = drawn(random, input, {3, 200}, Values::wide), amax(DType::f32, {1}, {448.0});
    on_streams_under_test([&](const Stream& stream) {
      Buffer q(DType::e4m3_rows, {3, 200});
      quantize_by(stream, x, q, {}, runs, amax);
      for (std::int64_t i = 0; i < 600; ++i)
        ASSERT_EQ(element_at(q, i / 200, i % 200), element_of(static_cast<float>(x.get(i)), 1)) << x.get(i);
    });
  }
}

/// Under a scale of 1 every bf16, what is next to each midpoint of elements, and numbers and what is none of both
/// signs.
TEST(Quantize, RoundsAsTheDefinitionUnderAGivenScale) {
  Buffer all(DType::bf16, {256, 256});
  for (std::int64_t i = 0; i < all.size(); ++i) {
    const auto x = bfloat16::from_bits(static_cast<std::uint16_t>(i));
    all.at<bfloat16>(i) = static_cast<float>(x) == static_cast<float>(x) ? x : bfloat16(0.0F);
  }
  Buffer near(DType::f32, {127, 8});
  for (std::int64_t i = 0; i < 127; ++i) {
    const auto low = float8_e4m3::from_bits(static_cast<std::uint8_t>(i)),
               high = float8_e4m3::from_bits(static_cast<std::uint8_t>(i + 1));
    const float middle = i == 126 ? 464 : (static_cast<float>(low) + static_cast<float>(high)) / 2;
    for (const int sign : {0, 1}) {
      const float s = sign ? -1 : 1;
      near.set(i * 8 + sign * 4, static_cast<double>(s * middle));
      near.set(i * 8 + sign * 4 + 1, static_cast<double>(s * std::nextafterf(middle, 0)));
      near.set(i * 8 + sign * 4 + 2, static_cast<double>(s * std::nextafterf(middle, 1000)));
      near.set(i * 8 + sign * 4 + 3, static_cast<double>(s * static_cast<float>(low)));
    }
  }
  const Buffer amax(DType::f32, {1}, {448.0});
  for (const Buffer* x : {&all, &near})
    for (const DType output : {DType::e4m3_rows, DType::mxe4m3_rows, DType::e4m3_panels}) {
      const std::int64_t M = x->tensor().dim(0), K = x->tensor().dim(1);
      const std::int32_t runs[] = {0, static_cast<std::int32_t>(M)};
      on_streams_under_test([&](const Stream& stream) {
        Buffer q(output, {M, K});
        quantize_by(stream, *x, q, {}, runs, amax);
        for (std::int64_t i = 0; i < M * K; ++i) {
          const auto v = static_cast<float>(x->get(i));
          ASSERT_EQ(element_at(q, i / K, i % K), float8_e4m3(v).bits) << i << " " << v;
        }
      });
      if (HasFatalFailure()) return;
    }
}

/// Runs of all lengths in long and wide tensors, more than a card is told of at a time; amax to the bit.
TEST(LargestMagnitudes, OfManyAndOfLongRuns) {
  Random random(12);
  std::vector<std::int32_t> many;
  for (std::int32_t row = 1; many.size() < 5001; row += static_cast<std::int32_t>(random() % 3)) many.push_back(row);
  for (const DType input : {DType::f32, DType::bf16})
    for (const auto& [K, runs] : {std::pair<std::int64_t, std::vector<std::int32_t>>{3000, {0, 3, 3, 29, 40, 40}},
                                  {2999, {1, 39}},
                                  {8, {0, 3000}},
                                  {1, many},
                                  {5, {7}},
                                  {0, {0, 0, 0}}}) {
      const std::int64_t M = runs.back() + 1, n = static_cast<std::int64_t>(runs.size()) - 1;
      const Buffer x = drawn(random, input, {M, K}, K == 8 ? Values::normal : Values::bad);
      on_streams_under_test([&](const Stream& stream) {
        Buffer amax(DType::f32, {n + 1});
        largest_magnitudes(stream, x, runs, amax);
        for (std::int64_t run = 0; run < n; ++run) {
          std::uint32_t most = 0;
          for (std::int64_t i = runs[static_cast<std::size_t>(run)] * K;
               i < runs[static_cast<std::size_t>(run) + 1] * K; ++i)
            most = std::max(most, std::bit_cast<std::uint32_t>(static_cast<float>(x.get(i))) & 0x7fffffffu);
          ASSERT_EQ(std::bit_cast<std::uint32_t>(amax.at<float>(run)), most) << run;
        }
        ASSERT_TRUE(is_poison(amax, n));
        if (K != 1) return;
        Buffer q(DType::e4m3_rows, {M, K});
        quantize_by(stream, x, q, {}, runs, amax);
        for (std::int64_t run = 0; run < n; ++run)
          for (std::int64_t r = runs[static_cast<std::size_t>(run)]; r < runs[static_cast<std::size_t>(run) + 1]; ++r)
            ASSERT_TRUE(same_float(element_scale(q, r, 0), scale_of_amax(amax.at<float>(run), ScaleKind::f32))) << r;
      });
      if (HasFatalFailure()) return;
    }
}

TEST(Quantize, RefusesRunsInsideABlock) {
  ThreadPool pool(1);
  const std::int32_t runs[] = {0, 64};
  Buffer x(DType::f32, {256, 4}), q(DType::e4m3_panels, {256, 4}), amax(DType::f32, {1}, {1.0});
  EXPECT_ANY_THROW(quantize_by(stream_of(pool), x, q, {}, runs, amax));
  EXPECT_ANY_THROW(quantize(stream_of(pool), x, Buffer(DType::e4m3_rows, {256, 5}), {}));
  EXPECT_ANY_THROW(quantize(stream_of(pool), x, Buffer(DType::f32, {256, 4}), {}));
}

}  // namespace
}  // namespace fourmi
