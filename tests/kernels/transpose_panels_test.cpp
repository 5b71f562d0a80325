// Transposed panels: each element and scale against the definition, there and back, and what products make of them.
#include "kernels/ops/transpose_panels.h"

#include <gtest/gtest.h>

#include <optional>

#include "kernels/ops/linear.h"
#include "tests/device/every_stream.h"
#include "tests/device/stream.h"
#include "tests/kernels/scaled_test_data.h"

namespace fourmi {
namespace {

using namespace test;

Shape turned(const Shape& s) {
  return s.rank == 2 ? Shape{s[1], s[0]} : Shape{s[0], s[2], s[1]};
}

/// Random elements and scales, NaN among them; zeros behind scales.
Buffer random_panels(Random& random, const Shape& shape) {
  Buffer q(DType::e4m3_panels, shape);
  const std::int64_t N = shape[shape.rank - 2], K = shape[shape.rank - 1];
  auto* at = static_cast<std::uint8_t*>(q->data);
  for (std::int64_t matrix = 0; matrix < q.size() / (N * K); ++matrix)
    for (std::int64_t row = 0; row < N; row += 128) {
      for (std::int64_t i = 0; i < std::min<std::int64_t>(128, N - row) * K; ++i)
        *at++ = static_cast<std::uint8_t>(random());
      for (std::int64_t i = 0; i < ScaledFormat::panel_scale_bytes(K); i += 4, at += 4) {
        float s = i / 4 < (K + 127) / 128 ? static_cast<float>(random() % 1000 + 1) / 64 : 0.0F;
        if (s != 0 && random() % 9 == 0) s = std::numeric_limits<float>::quiet_NaN();
        std::memcpy(at, &s, 4);
      }
    }
  return q;
}

const Shape shapes[] = {{128, 128}, {256, 384},   {1, 1},          {144, 272},      {272, 16},        {130, 20},
                        {20, 130},  {7, 300},     {513, 100},      {128, 640},      {3, 128, 256},    {2, 160, 144},
                        {3, 17, 5}, {2, 129, 96}, {1, 1040, 1296}, {4, 5 * 16, 16}, {1, 16 * 41, 257}};

TEST(TransposePanels, ElementsAndScalesAreTheDefinition) {
  Random random(1);
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(to_string(shape));
    const Buffer w = random_panels(random, shape);
    std::optional<Buffer> right;
    on_streams([&](const Stream& stream) {
      Buffer wt(DType::e4m3_panels, turned(shape)), back(DType::e4m3_panels, shape);
      transpose_panels(stream, w, wt);
      if (right) {
        ASSERT_TRUE(wt == *right) << "on every stream";
        return;
      }
      const std::int64_t N = shape[shape.rank - 2], K = shape[shape.rank - 1];
      for (std::int64_t i = 0; i < w.size(); ++i) {
        const std::int64_t matrix = i / (N * K), n = i / K % N, k = i % K;
        ASSERT_EQ(element_at(wt, matrix * K + k, n), element_at(w, matrix * N + n, k)) << i;
        ASSERT_TRUE(same_float(element_scale(wt, matrix * K + k, n), element_scale(w, matrix * N + n, k))) << i;
      }
      transpose_panels(stream, wt, back);
      ASSERT_EQ(std::memcmp(back->data, w->data, static_cast<std::size_t>(w->bytes())), 0) << "with its zeros";
      right = wt;
    });
  }
}

TEST(TransposePanels, AtAnyAddress) {
  Random random(2);
  for (const Shape& shape : {Shape{144, 272}, Shape{2, 32, 160}})
    for (const std::int64_t from : {0, 1, 8})
      for (const std::int64_t to : {0, 4}) {
        const Buffer w = random_panels(random, shape);
        Buffer expected(DType::e4m3_panels, turned(shape)), skewed(DType::u8, {w->bytes() + from}),
            got(DType::u8, {expected->bytes() + to});
        std::memcpy(static_cast<std::byte*>(skewed->data) + from, w->data, static_cast<std::size_t>(w->bytes()));
        ThreadPool pool(1);
        transpose_panels(Stream(pool), w, expected);
        auto* const result = static_cast<std::byte*>(got->data) + to;
        on_streams([&](const Stream& stream) {
          transpose_panels(stream, Tensor(static_cast<std::byte*>(skewed->data) + from, DType::e4m3_panels, w->shape),
                           Tensor(result, DType::e4m3_panels, expected->shape));
          EXPECT_EQ(std::memcmp(result, expected->data, static_cast<std::size_t>(expected->bytes())), 0);
        });
      }
}

/// On the CPU to the bit: the sum is the same chain.
TEST(TransposePanels, TheirProductIsTheInputGradient) {
  if (on_card()) GTEST_SKIP() << "a card has other kernels for the two; linear_float8_choice_test.cpp compares them";
  Random random(3);
  constexpr std::int64_t M = 37, N = 389, K = 277;
  const Buffer dy32 = drawn(random, DType::f32, {M, N}, Values::normal),
               w32 = drawn(random, DType::f32, {N, K}, Values::normal);
  on_streams([&](const Stream& stream) {
    Buffer dy(DType::e4m3_rows, {M, N}), w(DType::e4m3_panels, {N, K}), wt(DType::e4m3_panels, {K, N}),
        dx(DType::f32, {M, K}), through_wt(DType::f32, {M, K});
    quantize(stream, dy32, dy, {});
    quantize(stream, w32, w, {});
    transpose_panels(stream, w, wt);
    linear_backward_input(stream, dy, w, dx);
    linear_forward(stream, dy, wt, through_wt);
    EXPECT_TRUE(dx == through_wt);
  });
}

TEST(TransposePanels, WhatIsNoTransposeIsRefused) {
  ThreadPool pool(1);
  const Stream stream = stream_of(pool);
  const Buffer w(DType::e4m3_panels, {128, 256}), rows(DType::e4m3_rows, {256, 128}),
      same(DType::e4m3_panels, {128, 256}), experts(DType::e4m3_panels, {2, 256, 128});
  EXPECT_THROW(transpose_panels(stream, w, rows), Error);
  EXPECT_THROW(transpose_panels(stream, w, same), Error);
  EXPECT_THROW(transpose_panels(stream, w, experts), Error);
}

}  // namespace
}  // namespace fourmi
