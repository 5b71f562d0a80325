// Columns of rows with scales: bytes and scales of whole blocks, between rows of other widths.
#include <gtest/gtest.h>

#include <numeric>

#include "kernels/ops/copy.h"
#include "kernels/ops/quantize.h"
#include "tests/kernels/buffers.h"

namespace fourmi {
namespace {

struct Rows {
  std::vector<std::uint8_t> bytes;
  Tensor tensor;
  Rows(DType dtype, std::int64_t M, std::int64_t K)
      : bytes(static_cast<std::size_t>(bytes_of(dtype, {M, K})), 0xee), tensor(bytes.data(), dtype, {M, K}) {}
};

std::vector<float> values(const Stream& stream, const Tensor& rows) {
  std::vector<float> v(static_cast<std::size_t>(rows.num_elements()));
  dequantize(stream, rows, {v.data(), DType::f32, rows.shape});
  return v;
}

TEST(CopyScaled, TakesBlocksWithTheirScales) {
  ThreadPool pool(2);
  const Stream stream(pool);
  for (const auto& [dtype, block] : {std::pair{DType::e4m3_rows, 128}, {DType::mxe4m3_rows, 32}}) {
    const std::int64_t M = 5, A = 4 * block, B = 3 * block;
    std::vector<float> x(static_cast<std::size_t>(M * A));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 97) * (i % 2 ? 1.0F : -0.01F);
    Rows from(dtype, M, A), to(dtype, M, B);
    quantize(stream, {x.data(), DType::f32, {M, A}}, from.tensor, {.kind = ScaleKind::power_of_two});
    for (std::int64_t b = 0; b < 3; ++b)  // blocks 3, 1, 2
      copy_columns(stream, from.tensor, (b == 0 ? 3 : b) * block, to.tensor, b * block, block);
    const std::vector<float> source = values(stream, from.tensor), got = values(stream, to.tensor);
    for (std::int64_t r = 0; r < M; ++r)
      for (std::int64_t c = 0; c < B; ++c) {
        const std::int64_t at = (c / block == 0 ? 3 : c / block) * block + c % block;
        ASSERT_EQ(got[static_cast<std::size_t>(r * B + c)], source[static_cast<std::size_t>(r * A + at)])
            << r << " " << c;
      }
    // What lies between a row's scales and the next row is zero, as a quantiser leaves it.
    const std::int64_t row = ScaledFormat::row_bytes(dtype, B),
                       scales = B + B / block * (dtype == DType::e4m3_rows ? 4 : 1);
    for (std::int64_t r = 0; r < M; ++r)
      EXPECT_EQ(std::accumulate(to.bytes.begin() + r * row + scales, to.bytes.begin() + (r + 1) * row, 0), 0);
  }
}

TEST(CopyScaled, RefusesAPartOfABlock) {
  ThreadPool pool(1);
  const Stream stream(pool);
  Rows from(DType::e4m3_rows, 2, 256), to(DType::e4m3_rows, 2, 256);
  EXPECT_ANY_THROW(copy_columns(stream, from.tensor, 64, to.tensor, 0, 128));
  EXPECT_ANY_THROW(copy_columns(stream, from.tensor, 0, to.tensor, 128, 64));
}

TEST(ScaledFormat, RowsAndPanelsLieOneAfterAnother) {
  EXPECT_EQ(ScaledFormat::row_bytes(DType::e4m3_rows, 512), 528);  // 0.516 of bf16's
  EXPECT_EQ(ScaledFormat::row_bytes(DType::e4m3_rows, 7168), 7392);
  EXPECT_EQ(ScaledFormat::row_bytes(DType::e4m3_rows, 100), 112);
  EXPECT_EQ(ScaledFormat::row_bytes(DType::mxe4m3_rows, 128), 144);
  EXPECT_EQ(bytes_of(DType::e4m3_rows, {3, 2, 512}), 6 * 528);
  EXPECT_EQ(bytes_of(DType::e4m3_panels, {300, 200}), 300 * 200 + 3 * 16);
  EXPECT_EQ(bytes_of(DType::e4m3_panels, {5, 300, 200}), 5 * (300 * 200 + 3 * 16));
  // What is fused lies like one matrix where all but the last part have whole panels.
  EXPECT_EQ(bytes_of(DType::e4m3_panels, {128, 200}) + bytes_of(DType::e4m3_panels, {172, 200}),
            bytes_of(DType::e4m3_panels, {300, 200}));
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(bytes_of(DType::e4m3_panels, {300, 200})));
  const Tensor panels(bytes.data(), DType::e4m3_panels, {300, 200});
  EXPECT_EQ(panels.rows(128, 300).data, bytes.data() + 128 * 200 + 16);
  EXPECT_ANY_THROW(panels.rows(100, 300));
  EXPECT_ANY_THROW(panels.rows(0, 200));
  EXPECT_ANY_THROW(panels.view({200, 300}));
  EXPECT_ANY_THROW(size_of(DType::e4m3_rows));
  const Tensor rows(bytes.data(), DType::e4m3_rows, {2, 3, 128});
  EXPECT_EQ(rows.rows(1, 2).data, bytes.data() + 3 * 144);
  EXPECT_EQ(rows.view({6, 128}).rows(2, 3).data, bytes.data() + 2 * 144);
  EXPECT_ANY_THROW(rows.view({3, 256}));
}

}  // namespace
}  // namespace fourmi
