// Which linear maps a library computes, and what it is told of their matrices: plain values, no card.
#include <gtest/gtest.h>

#include "kernels/cuda/library/fp8_layout.h"
#include "kernels/cuda/library/matmul.h"

namespace fourmi::cuda::library {
namespace {

using linear::Descriptor;
using linear::Input;
using linear::Map;

Descriptor good() {
  return {.map = Map::forward, .num_rows = 128, .num_in = 72, .num_out = 264, .aligned = true};
}
template <class Change>
bool taken(Change change) {
  Descriptor d = good();
  change(d);
  return takes(d);
}

TEST(LibraryChoice, TakesAlignedProductsOfBf16) {
  EXPECT_TRUE(takes(good()));
  for (const Map map : {Map::forward, Map::backward_input, Map::backward_weight})
    EXPECT_TRUE(taken([map](auto& d) { d.map = map; }));
  EXPECT_TRUE(taken([](auto& d) { d.out = DType::f32, d.has_residual = true; }));
  EXPECT_TRUE(taken([](auto& d) { d.num_rows = d.num_in = d.num_out = 64; }));
}

TEST(LibraryChoice, LeavesTheRestToOurs) {
  for (const Input input : {Input::f64, Input::f32, Input::e4m3, Input::mxe4m3})
    EXPECT_FALSE(taken([input](auto& d) { d.input = input; }));
  EXPECT_FALSE(taken([](auto& d) { d.grouped = true; }));
  EXPECT_FALSE(taken([](auto& d) { d.aligned = false; }));
  for (std::int64_t Descriptor::*size : {&Descriptor::num_rows, &Descriptor::num_in, &Descriptor::num_out})
    for (const std::int64_t n : {0, 1, 56, 63, 65, 100, 4097}) EXPECT_FALSE(taken([&](auto& d) { d.*size = n; })) << n;
}

/// Where element (row, column) of the operation's matrix lies.
std::int64_t place(const Matrix& m, bool transposed, std::int64_t row, std::int64_t column) {
  return transposed ? row * m.stride + column : column * m.stride + row;
}

TEST(LibraryMatmul, MatricesAreOursByRows) {
  constexpr std::int64_t M = 128, N = 264, K = 72;
  Descriptor d = good();
  for (const Map map : {Map::forward, Map::backward_input, Map::backward_weight}) {
    d.map = map, d.out = map == Map::forward ? DType::bf16 : DType::f32;
    const Matmul m = matmul_of(d);
    ASSERT_EQ(trouble(m), nullptr);
    EXPECT_EQ(m.d.element, map == Map::forward ? Element::bf16 : Element::f32);
    // Ours: out[i][j] = sum over s of first * second, each of which lies by rows of so many columns.
    const std::int64_t rows = map == Map::backward_weight ? N : M, columns = map == Map::forward ? N : K;
    const std::int64_t sum = map == Map::forward ? K : map == Map::backward_input ? N : M;
    for (const std::int64_t i : {std::int64_t{0}, std::int64_t{5}, rows - 1})
      for (const std::int64_t j : {std::int64_t{0}, std::int64_t{7}, columns - 1})
        for (const std::int64_t s : {std::int64_t{0}, std::int64_t{3}, sum - 1}) {
          const std::int64_t first = map == Map::backward_weight ? s * N + i : i * sum + s;
          const std::int64_t second = map == Map::forward ? j * K + s : s * K + j;
          EXPECT_EQ(place(m.d, false, j, i), i * columns + j);
          EXPECT_EQ(place(m.a, m.transposed_a, j, s), second);
          EXPECT_EQ(place(m.b, m.transposed_b, s, i), first);
        }
  }
}

TEST(LibraryMatmul, RulesAreChecked) {
  const auto trouble_of = [](auto change) {
    Matmul m = matmul_of(good());
    change(m);
    return trouble(m);
  };
  EXPECT_TRUE(trouble_of([](Matmul& m) { m.transposed_a = false; }));
  EXPECT_TRUE(trouble_of([](Matmul& m) { m.d.rows -= 8; }));
  EXPECT_TRUE(trouble_of([](Matmul& m) { m.d.columns -= 8; }));
  EXPECT_TRUE(trouble_of([](Matmul& m) { m.b.stride = 73; }));
  EXPECT_TRUE(trouble_of([](Matmul& m) { m.b.stride = 64; }));
  EXPECT_TRUE(trouble_of([](Matmul& m) { m.a.element = Element::f32; }));
  EXPECT_TRUE(trouble_of([](Matmul& m) { m.a_scales = Scales::lines; }));
  EXPECT_EQ(trouble_of([](Matmul& m) { m.b.stride = 80; }), nullptr);

  const auto scaled_trouble = [](auto change) {
    Matmul m = matmul_of_scaled(12, 40, 272, DType::bf16);
    change(m);
    return trouble(m);
  };
  EXPECT_EQ(scaled_trouble([](Matmul&) {}), nullptr);
  EXPECT_TRUE(scaled_trouble([](Matmul& m) { m.b_scales = Scales::squares; }));
  EXPECT_TRUE(scaled_trouble([](Matmul& m) { m.b_scales = Scales::none; }));
  EXPECT_TRUE(scaled_trouble([](Matmul& m) { m.b.columns = m.d.columns = 13; }));
  EXPECT_TRUE(scaled_trouble([](Matmul& m) { m.a = {Element::e4m3, 40, 272, 48}, m.transposed_a = false; }));
  EXPECT_TRUE(trouble(matmul_of_scaled(12, 36, 272, DType::bf16)));  // rows of 72 bytes
  EXPECT_EQ(trouble(matmul_of_scaled(12, 36, 272, DType::f32)), nullptr);
  EXPECT_TRUE(trouble(matmul_of_scaled(12, 40, 264, DType::f32)));
  EXPECT_EQ(trouble(matmul_of_columns(36, 20, 256)), nullptr);
  EXPECT_TRUE(trouble(matmul_of_columns(36, 18, 256)));
}

TEST(LibraryMatmul, RowsWithScalesHaveTheirOwnStride) {
  const Matmul m = matmul_of_scaled(12, 40, 272, DType::f32);
  EXPECT_EQ(m.b.stride, 272 + 16);  // three scales, and four bytes behind them
  EXPECT_EQ(m.a.stride, 272);
  EXPECT_EQ(num_scales(Scales::lines, 12, 272), 3 * 12);
  EXPECT_EQ(num_scales(Scales::squares, 40, 272), 4);
  EXPECT_EQ(num_scales(Scales::squares, 129, 128 * 5), 2 * 8);
}

TEST(LibraryMatmul, ScratchHasRoomForWhatIsPrepared) {
  for (const auto& [M, N, K] :
       {std::tuple<std::int64_t, std::int64_t, std::int64_t>{12, 40, 272}, {4096, 7168, 16384}}) {
    const Fp8Scratch at = fp8_scratch(M, N, K);
    EXPECT_GE(at.w_scales, N * K);
    EXPECT_GE(at.x_scales - at.w_scales, 4 * num_scales(Scales::squares, N, K));
    EXPECT_GE(at.bytes - at.x_scales, 4 * num_scales(Scales::lines, M, K));
    EXPECT_EQ(at.w_scales % 256 + at.x_scales % 256, 0);
  }
  // As the docs have it: 239 MB read and written for a panel of weights of 7168 x 16384, of which 4.2 MB are x's
  // scales.
  EXPECT_EQ(fp8_prepared_bytes(4096, 7168, 16384), 2 * (7168 * 16384 + 56 * 512 + 4 * 128 * 4096));
}

}  // namespace
}  // namespace fourmi::cuda::library
