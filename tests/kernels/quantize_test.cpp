#include "kernels/ops/quantize.h"

#include <gtest/gtest.h>

#include "kernels/cpu/scaled_groups.h"
#include "tests/device/stream.h"
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

void expect_zeros_behind_panels(const Tensor& q) {
  const std::int64_t K = q.dim(q.shape.rank - 1), N = q.dim(q.shape.rank - 2);
  if (q.num_elements() == 0) return;
  const auto* at = static_cast<const std::uint8_t*>(q.data);
  for (std::int64_t matrix = 0; matrix < q.num_elements() / (N * K); ++matrix)
    for (std::int64_t row = 0; row < N; row += 128) {
      at += std::min<std::int64_t>(128, N - row) * K;
      for (std::int64_t i = (K + 127) / 128 * 4; i < ScaledFormat::panel_scale_bytes(K); ++i)
        ASSERT_EQ(at[i], 0) << "padding";
      at += ScaledFormat::panel_scale_bytes(K);
    }
}

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
  if (panels) return expect_zeros_behind_panels(q);
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
  for (const DType input : {DType::f32, DType::bf16})
    for (const Values values : {Values::wide, Values::bad}) {
      for (const DType rows : {DType::e4m3_rows, DType::mxe4m3_rows})
        for (const Shape shape : {Shape{40, 520}, Shape{3, 5, 1288}, Shape{7, 300}, Shape{300, 8}})
          all.push_back({input, rows, shape, {}, values});
      for (const Shape shape : {Shape{2, 129, 40}, Shape{300, 136}, Shape{2, 3, 1}})
        all.push_back({input, DType::e4m3_panels, shape, {}, values});
    }
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
    on_streams_under_test([&](const Stream& stream) {
      Buffer q(c.output, c.shape);
      quantize(stream, x, q, c.scaling);
      expect_definition(x, q, c.scaling);
    });
    if (HasFatalFailure()) return;
  }
}

TEST(Quantize, ScalesFromBitsAreThoseOfTheRule) {
  if (on_card()) GTEST_SKIP() << "a function of the host";
  for (const ScaleKind kind : {ScaleKind::f32, ScaleKind::power_of_two}) {
    const auto check = [kind](std::uint32_t bits) {
      const float s = scale_of_amax(std::bit_cast<float>(bits), kind);
      const GroupScale g = scale_of_bits(bits, kind);
      ASSERT_TRUE(same_float(g.scale, s) && same_float(g.inverse, 1 / s)) << bits;
    };
    for (std::uint32_t mantissa = 0; mantissa < 1u << 23; ++mantissa) check(127u << 23 | mantissa);
    for (std::uint32_t exponent = 0; exponent < 256; ++exponent)
      for (const std::uint32_t mantissa : {0u, 1u, 0x400000u, 0x5fffffu, 0x600000u, 0x600001u, 0x7fffffu})
        check(exponent << 23 | mantissa);
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
          on_streams_under_test([&](const Stream& stream) {
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
  EXPECT_ANY_THROW(quantize_blocks(stream_of(pool), x, Buffer(DType::mxe4m3_rows, {2, 32}), {}));
  EXPECT_ANY_THROW(quantize_blocks(stream_of(pool), x, Buffer(DType::e4m3_rows, {2, 33}), {}));
}

/// Views behind other memory: whole rows that do not begin at multiples of 16 bytes.
TEST(Quantize, OfAnyAddress) {
  Random random(13);
  for (const DType input : {DType::f32, DType::bf16}) {
    const Shape shape{3, 8};
    const std::int64_t before = bytes_of(DType::e4m3_panels, shape), size = bytes_of(input, shape);
    const Buffer drawing = drawn(random, input, shape, Values::normal), memory(DType::u8, {before + size});
    auto* const bytes = static_cast<std::uint8_t*>(memory->data);
    std::memcpy(bytes + before, drawing->data, static_cast<std::size_t>(size));
    const Tensor q(bytes, DType::e4m3_panels, shape), x(bytes + before, input, shape);
    on_streams_under_test([&](const Stream& stream) {
      Buffer expected(DType::e4m3_panels, shape), back(DType::f32, shape);
      ThreadPool pool(1);
      quantize(Stream(pool), drawing, expected, {});
      quantize(stream, x, q, {});
      EXPECT_TRUE(same_bytes(q, expected));
      dequantize(stream, expected, x);
      dequantize(stream, expected, back);
      for (std::int64_t i = 0; i < 24; ++i) {
        const float want = back.at<float>(i);
        if (input == DType::f32)
          EXPECT_EQ(x.as<float>()[i], want);
        else
          EXPECT_EQ(x.as<bfloat16>()[i].bits, bfloat16(want).bits);
      }
      std::memcpy(bytes + before, drawing->data, static_cast<std::size_t>(size));
    });
  }
}

TEST(Dequantize, IsElementTimesScaleOnEveryIsa) {
  Random random(3);
  for (const DType output : {DType::e4m3_rows, DType::mxe4m3_rows, DType::e4m3_panels})
    for (const Values values : all_values)
      for (const ScaleKind kind : {ScaleKind::f32, ScaleKind::power_of_two}) {
        const std::int64_t K = values == Values::wide ? 304 : 300;  // vectors, or none
        const Shape shape = output == DType::e4m3_panels ? Shape{2, 130, K} : Shape{5, K};
        const Buffer x = drawn(random, DType::f32, shape, values);
        on_streams_under_test([&](const Stream& stream) {
          Buffer q(output, shape), y(DType::f32, shape), b(DType::bf16, shape);
          quantize(stream, x, q, {.kind = kind});
          if (values == Values::normal)  // NaN elements beside a good scale: not ours, but they must not become numbers
            static_cast<std::uint8_t*>(q->data)[37] = 0x7f, static_cast<std::uint8_t*>(q->data)[2] = 0xff;
          dequantize(stream, q, y);
          dequantize(stream, q, b);
          for (std::int64_t i = 0; i < y.size(); ++i) {
            const std::int64_t r = i / K, c = i % K;
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

TEST(Dequantize, OfAnySize) {
  Random random(14);
  for (const DType output : {DType::e4m3_rows, DType::mxe4m3_rows, DType::e4m3_panels})
    for (const Shape shape : {Shape{40, 1032}, Shape{2, 129, 40}, Shape{2, 131, 7}, Shape{1, 1}, Shape{0, 128}}) {
      const Buffer x = drawn(random, DType::f32, shape, Values::wide);
      on_streams_under_test([&](const Stream& stream) {
        Buffer q(output, shape), y(DType::f32, shape), b(DType::bf16, shape);
        ThreadPool pool(1);
        quantize(Stream(pool), x, q, {});
        dequantize(stream, q, y);
        dequantize(stream, q, b);
        for (std::int64_t i = 0, K = shape[shape.rank - 1]; i < y.size(); ++i) {
          const auto element = static_cast<float>(float8_e4m3::from_bits(element_at(q, i / K, i % K)));
          const float want = element * element_scale(q, i / K, i % K);
          ASSERT_EQ(std::bit_cast<std::uint32_t>(y.at<float>(i)), std::bit_cast<std::uint32_t>(want)) << i;
          ASSERT_EQ(b.at<bfloat16>(i).bits, bfloat16(want).bits) << i;
        }
      });
      if (HasFatalFailure()) return;
    }
}

}  // namespace
}  // namespace fourmi
