// The layout of DeepSeek-V3's files, written and read: element by element against what a reader of such a file
// computes.
#include "kernels/ops/block_scales.h"

#include <gtest/gtest.h>

#include "kernels/ops/linear.h"
#include "tests/kernels/scaled_test_data.h"

namespace fourmi {
namespace {

using namespace test;

const Shape matrices[] = {{128, 128}, {256, 384}, {576, 300}, {1, 1}, {130, 129}};

Shape scales_of(const Shape& s) {
  return {(s[0] + 127) / 128, (s[1] + 127) / 128};
}

Buffer quantised(const Shape& shape, ScaleKind kind, const Stream& stream) {
  Random random(7);
  Buffer q(DType::e4m3_panels, shape);
  quantize(stream, drawn(random, DType::bf16, shape, Values::wide), q, {.kind = kind});
  return q;
}

TEST(BlockScales, AReaderOfTheFileFindsTheValues) {
  ThreadPool pool(1);
  const Stream stream(pool);
  for (const Shape& shape : matrices)
    for (const ScaleKind kind : {ScaleKind::f32, ScaleKind::power_of_two}) {
      const Buffer q = quantised(shape, kind, stream);
      Buffer weight(DType::u8, shape), scale_inv(DType::f32, scales_of(shape)), values(DType::f32, shape);
      panels_to_block_scales(q, weight, scale_inv);
      dequantize(stream, q, values);
      // weight.float() * weight_scale_inv[n // 128][k // 128]
      for (std::int64_t n = 0; n < shape[0]; ++n)
        for (std::int64_t k = 0; k < shape[1]; ++k) {
          const auto element = float8_e4m3::from_bits(weight->as<std::uint8_t>()[n * shape[1] + k]);
          const float scale = scale_inv->as<float>()[n / 128 * scales_of(shape)[1] + k / 128];
          ASSERT_EQ(static_cast<float>(element) * scale, values->as<float>()[n * shape[1] + k]) << n << " " << k;
        }
    }
}

/// Scales of a file are kept, also where ours would be others: twice and half as large, with elements to fit.
TEST(BlockScales, AFileComesBackByteForByte) {
  Random random(11);
  for (const Shape& shape : matrices) {
    Buffer weight(DType::u8, shape), scale_inv(DType::f32, scales_of(shape)), q(DType::e4m3_panels, shape);
    for (std::int64_t i = 0; i < weight->num_elements(); ++i)
      weight->as<std::uint8_t>()[i] = static_cast<std::uint8_t>(random());
    scale_inv.fill([&](std::int64_t) { return std::exp2(static_cast<double>(random() % 40) - 20) * 1.1; });
    block_scales_to_panels(weight, scale_inv, q);
    Buffer weight_again(DType::u8, shape), scale_again(DType::f32, scales_of(shape));
    panels_to_block_scales(q, weight_again, scale_again);
    EXPECT_EQ(std::memcmp(weight->data, weight_again->data, static_cast<std::size_t>(weight->bytes())), 0);
    EXPECT_EQ(std::memcmp(scale_inv->data, scale_again->data, static_cast<std::size_t>(scale_inv->bytes())), 0);
    // Where products look for them.
    for (std::int64_t n = 0; n < shape[0]; n += 63)
      EXPECT_EQ(element_scale(q, n, shape[1] - 1), scale_inv->as<float>()[(n / 128 + 1) * scales_of(shape)[1] - 1]);
  }
}

TEST(BlockScales, WrongShapesAreRefused) {
  Buffer weight(DType::u8, {130, 128}), scale_inv(DType::f32, {1, 1}), q(DType::e4m3_panels, {130, 128});
  EXPECT_THROW(block_scales_to_panels(weight, scale_inv, q), Error);
}

}  // namespace
}  // namespace fourmi
