// Products of e4m3 elements with scales of 128: which kernels a card has for which call, and that those which the
// choice names run and agree with the CPU's, at sizes that just fit Hopper's and that just do not.
#include <gtest/gtest.h>

#include "kernels/cpu/row_groups.h"
#include "kernels/cuda/linear_choice.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/transpose_panels.h"
#include "tests/device/stream.h"
#include "tests/hopper/card.h"
#include "tests/kernels/scaled_test_data.h"

namespace fourmi {
namespace {

using namespace test;
using cuda::Capability;
using cuda::linear::choose;
using cuda::linear::Descriptor;
using cuda::linear::Family;
using cuda::linear::Input;
using cuda::linear::Map;

Descriptor good(Map map) {
  return {.map = map,
          .input = Input::e4m3,
          .out = map == Map::backward_weight ? DType::f32 : DType::bf16,
          .num_rows = 1000,
          .num_in = 256,
          .num_out = 384,
          .num_used_rows = 1000,
          .num_places = 1024,
          .aligned = true,
          .addresses_aligned = true};
}
template <class Change>
Family chosen(Map map, const Change& change, Capability card = {9, 0}) {
  Descriptor d = good(map);
  change(d);
  return choose(d, card);
}

TEST(LinearFloat8Choice, HoppersProductWhereItFits) {
  const auto is = [](Family family, const auto& change) { EXPECT_EQ(chosen(Map::forward, change), family); };
  is(Family::hopper_product, [](Descriptor&) {});
  is(Family::hopper_product, [](Descriptor& d) { d.out = DType::f32; });
  is(Family::hopper_product, [](Descriptor& d) { d.has_residual = true; });
  is(Family::hopper_product, [](Descriptor& d) { d.grouped = true, d.num_groups = 1024, d.num_used_rows = 3; });
  is(Family::hopper_product, [](Descriptor& d) { d.num_rows = 1; });
  is(Family::hopper_product, [](Descriptor& d) { d.num_in = 16, d.num_out = 16; });
  is(Family::plain_scaled, [](Descriptor& d) { d.num_in = 264; });
  is(Family::plain_scaled, [](Descriptor& d) { d.num_out = 392; });
  is(Family::plain_scaled, [](Descriptor& d) { d.grouped = true, d.num_groups = 1025; });
  is(Family::plain_scaled, [](Descriptor& d) { d.addresses_aligned = false; });
  is(Family::plain_scaled, [](Descriptor& d) { d.input = Input::mxe4m3; });
  is(Family::plain, [](Descriptor& d) { d.input = Input::f32, d.out = DType::f32; });
}

TEST(LinearFloat8Choice, HoppersGradientWhereItFits) {
  const auto is = [](Family family, const auto& change) { EXPECT_EQ(chosen(Map::backward_weight, change), family); };
  is(Family::hopper_gradient, [](Descriptor&) {});
  is(Family::hopper_gradient, [](Descriptor& d) { d.grouped = true, d.num_groups = 1024; });
  is(Family::hopper_gradient, [](Descriptor& d) { d.num_in = 4, d.num_out = 12, d.aligned = false; });
  is(Family::plain_scaled, [](Descriptor& d) { d.num_in = 258; });
  is(Family::plain_scaled, [](Descriptor& d) { d.num_out = 2; });
  is(Family::plain_scaled, [](Descriptor& d) { d.num_places = 0; });    // operands whose places differ
  is(Family::plain_scaled, [](Descriptor& d) { d.num_places = 896; });  // fewer than rows
  is(Family::plain_scaled, [](Descriptor& d) { d.grouped = true, d.num_groups = 1025; });
  is(Family::plain_scaled, [](Descriptor& d) { d.addresses_aligned = false; });
  is(Family::plain_scaled, [](Descriptor& d) { d.input = Input::mxe4m3; });
  is(Family::plain, [](Descriptor& d) { d.input = Input::f32; });
}

/// Units of sm_90a: in no card before, and in none after.
TEST(LinearFloat8Choice, OtherCardsHaveTheKernelsOfAnyShape) {
  for (const Capability card : {Capability{8, 0}, {8, 6}, {8, 9}, {9, 1}, {10, 0}, {12, 0}, {}}) {
    EXPECT_FALSE(card.has_hoppers_units() || card.is_supported()) << card.major << "." << card.minor;
    EXPECT_EQ(chosen(
                  Map::forward, [](Descriptor&) {}, card),
              Family::plain_scaled);
    EXPECT_EQ(chosen(
                  Map::backward_weight, [](Descriptor&) {}, card),
              Family::plain_scaled);
    EXPECT_EQ(chosen(
                  Map::backward_input, [](Descriptor&) {}, card),
              Family::plain_scaled);
    EXPECT_EQ(chosen(
                  Map::forward, [](Descriptor& d) { d.input = Input::bf16; }, card),
              Family::plain);
  }
  EXPECT_TRUE(Capability(9, 0).is_supported());
}

/// dx reads panels as they are: Hopper's kernels get it through linear_forward and transposed panels.
TEST(LinearFloat8Choice, InputGradientsOfPanelsAreForAnyShape) {
  EXPECT_EQ(chosen(Map::backward_input, [](Descriptor&) {}), Family::plain_scaled);
  EXPECT_EQ(chosen(Map::backward_input, [](Descriptor& d) { d.input = Input::mxe4m3; }), Family::plain_scaled);
}

/// 1 - 2 <x, y> / (|x|^2 + |y|^2)
double calc_diff(const Buffer& x, const Buffer& y) {
  double xy = 0, norms = 0;
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const double a = x.get(i), b = y.get(i);
    xy += a * b, norms += a * a + b * b;
  }
  return norms == 0 ? 0 : 1 - 2 * xy / norms;
}

struct Case {
  std::int64_t M, N, K;
  bool product_fits, transposed_fits, gradient_fits;
  std::vector<std::int32_t> offsets{};  ///< empty: not grouped
  bool residual = false;
};
const Case cases[] = {
    {70, 128, 128, true, true, true},
    {130, 256, 384, true, true, true, {}, true},
    {65, 144, 400, true, true, true},
    {65, 136, 400, false, false, true},  // 136 is no multiple of 16
    {40, 128, 132, false, false, true},
    {40, 132, 130, false, false, false},
    {150, 128, 256, true, true, true, {0, 0, 70, 70, 71, 150, 150}},
    {150, 128, 128, true, true, true, {0, 5, 5, 133}},  // rows from 133 on are nobody's
    {90, 136, 128, false, false, true, {0, 0, 90, 90}},
    {90, 134, 48, false, false, false, {0, 45, 45, 90}},
};

/// Everything that a linear map does in FP8, from floats on.
struct Products {
  Buffer x8, w8, dy8, wt8, x_columns, dy_columns;  // scales of columns are compared through what they make
  Buffer y, y16, dx, dw;
  std::vector<std::optional<std::int64_t>> begun;  ///< products of Hopper's units after each

  Products(const Stream& stream, const Case& c, const Buffer& x, const Buffer& w, const Buffer& grad,
           const Buffer& residual, bool on_card_here)
      : x8(DType::e4m3_rows, {c.M, c.K}),
        w8(DType::e4m3_panels, w->shape),
        dy8(DType::e4m3_rows, {c.M, c.N}),
        wt8(DType::e4m3_panels, experts(c) ? Shape{experts(c), c.K, c.N} : Shape{c.K, c.N}),
        x_columns(DType::u8, {elements(c, c.K, on_card_here)}),
        dy_columns(DType::u8, {elements(c, c.N, on_card_here)}),
        y(DType::f32, {c.M, c.N}),
        y16(DType::bf16, {c.M, c.N}),
        dx(DType::bf16, {c.M, c.K}),
        dw(DType::f32, w->shape) {
    const Scaling power{ScaleKind::power_of_two};
    quantize(stream, x, x8, power), quantize(stream, w, w8, power), quantize(stream, grad, dy8, power);
    transpose_panels(stream, w8, wt8);
    const Buffer x_scales(DType::f32, {groups(c), c.K}), dy_scales(DType::f32, {groups(c), c.N});
    const ColumnScaled xc{Tensor(x_columns->data, DType::u8, {c.M, c.K}), x_scales},
        dyc{Tensor(dy_columns->data, DType::u8, {c.M, c.N}), dy_scales};
    regroup_columns(stream, x8, xc, ColumnScale::power_of_two, c.offsets);
    regroup_columns(stream, dy8, dyc, ColumnScale::power_of_two, c.offsets);
    for (Buffer* out : {&y, &y16, &dx}) out->fill([](std::int64_t) { return 0; });
    dw.fill([](std::int64_t i) { return static_cast<double>(i % 7) / 8; });
    const auto count = [&] { begun.push_back(hopper_products_on_card()); };
    count();
    if (c.offsets.empty()) {
      linear_forward(stream, x8, w8, y, c.residual ? residual.tensor() : Tensor{}), count();
      linear_forward(stream, x8, w8, y16), count();
      linear_forward(stream, dy8, wt8, dx), count();
      linear_backward_weight(stream, dyc, xc, dw), count();
    } else {
      grouped_linear_forward(stream, x8, w8, c.offsets, y), count();
      grouped_linear_forward(stream, x8, w8, c.offsets, y16), count();
      grouped_linear_forward(stream, dy8, wt8, c.offsets, dx), count();
      grouped_linear_backward_weight(stream, dyc, xc, c.offsets, dw), count();
    }
  }
  static std::int64_t experts(const Case& c) { return c.offsets.empty() ? 0 : std::ssize(c.offsets) - 1; }
  static std::int64_t groups(const Case& c) {
    return ColumnScaled::most_groups(c.M, std::max<std::int64_t>(1, experts(c)), 128);
  }
  static std::int64_t elements(const Case& c, std::int64_t width, bool on_card_here) {
    return ColumnScaled::element_bytes(on_card_here ? Device::cuda : Device::cpu, c.M, width, groups(c), 128);
  }
};

bool same_bytes(const Buffer& a, const Buffer& b) {
  return std::memcmp(a->data, b->data, static_cast<std::size_t>(a->bytes())) == 0;
}

TEST(LinearFloat8Choice, WhatIsChosenRunsAndAgreesWithTheCpu) {
  ThreadPool pool(1);
  Random random(1);
  for (const Case& c : cases) {
    const std::int64_t E = Products::experts(c);
    SCOPED_TRACE(fmt::format("{} x {} x {}, {} experts", c.M, c.N, c.K, E));
    const Shape w_shape = E > 0 ? Shape{E, c.N, c.K} : Shape{c.N, c.K};
    const Buffer x = drawn(random, DType::f32, {c.M, c.K}, Values::normal),
                 w = drawn(random, DType::f32, w_shape, Values::normal),
                 grad = drawn(random, DType::f32, {c.M, c.N}, Values::normal),
                 residual = drawn(random, DType::f32, {c.M, c.N}, Values::normal);
    const Products cpu(Stream(pool), c, x, w, grad, residual, false),
        here(stream_of(pool), c, x, w, grad, residual, on_card());
    EXPECT_TRUE(same_bytes(here.x8, cpu.x8) && same_bytes(here.w8, cpu.w8) && same_bytes(here.dy8, cpu.dy8) &&
                same_bytes(here.wt8, cpu.wt8));
    // What is quantised is equal, so only the order of sums differs.
    for (const auto& [got, expected, bound] :
         {std::tuple{&here.y, &cpu.y, 1e-6}, std::tuple{&here.y16, &cpu.y16, 1e-5}, std::tuple{&here.dx, &cpu.dx, 1e-5},
          std::tuple{&here.dw, &cpu.dw, 1e-6}})
      EXPECT_LT(std::abs(calc_diff(*got, *expected)), bound);
    if (!on_card()) {
      EXPECT_TRUE(same_bytes(here.y, cpu.y) && same_bytes(here.dw, cpu.dw));
      continue;
    }
    const bool fit[] = {c.product_fits, c.product_fits, c.transposed_fits, c.gradient_fits};
    for (std::size_t i = 0; i < 4; ++i) {
      if (!here.begun[i]) continue;  // not to be seen on a real card
      EXPECT_EQ(*here.begun[i + 1] > *here.begun[i], fit[i]) << "product " << i;
    }
  }
}

}  // namespace
}  // namespace fourmi
