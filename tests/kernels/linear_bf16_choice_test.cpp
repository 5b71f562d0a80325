// Products of bf16: which kernels a card has for which call, and that those which the choice names run and agree with
// the CPU's, at sizes that just fit Hopper's and that just do not.
#include <gtest/gtest.h>

#include "kernels/cuda/library/matmul.h"
#include "kernels/cuda/linear_choice.h"
#include "kernels/ops/linear.h"
#include "tests/device/stream.h"
#include "tests/hopper/card.h"
#include "tests/kernels/scaled_test_data.h"

namespace fourmi {
namespace {

using namespace test;
using cuda::linear::choose;
using cuda::linear::Descriptor;
using cuda::linear::Family;
using cuda::linear::Input;
using cuda::linear::Map;

template <class Change>
Descriptor changed(Map map, const Change& change) {
  Descriptor d{.map = map,
               .input = Input::bf16,
               .out = map == Map::backward_weight ? DType::f32 : DType::bf16,
               .num_rows = 1000,
               .num_in = 256,
               .num_out = 384,
               .num_used_rows = 1000,
               .num_groups = 8,
               .grouped = true,
               .aligned = true,
               .addresses_aligned = true};
  change(d);
  return d;
}

TEST(LinearBf16Choice, HoppersWhereTheyFit) {
  for (const Map map : {Map::forward, Map::backward_input, Map::backward_weight}) {
    const bool weight = map == Map::backward_weight;
    const Family hopper = weight ? Family::hopper_bf16_gradient : Family::hopper_bf16_product;
    const auto is = [map](Family family, const auto& change) {
      EXPECT_EQ(choose(changed(map, change), {9, 0}), family);
    };
    is(hopper, [](Descriptor&) {});
    is(hopper, [](Descriptor& d) { d.out = DType::f32; });
    is(hopper, [](Descriptor& d) { d.has_residual = true; });
    is(hopper, [](Descriptor& d) { d.num_groups = 1024, d.num_used_rows = 3; });
    is(hopper, [](Descriptor& d) { d.grouped = false, d.num_groups = 1; });  // where cuBLASLt is not there
    is(hopper, [](Descriptor& d) { d.num_in = 8, d.num_out = 16; });
    is(hopper, [](Descriptor& d) { d.num_rows = d.num_used_rows = 1; });
    is(Family::plain, [](Descriptor& d) { d.num_in = 260; });
    is(Family::plain, [](Descriptor& d) { d.num_out = 388; });
    is(Family::plain, [](Descriptor& d) { d.num_groups = 1025; });
    is(Family::plain, [](Descriptor& d) { d.addresses_aligned = false; });
    is(Family::plain, [](Descriptor& d) { d.input = Input::f32; });
    for (const cuda::Capability card : {cuda::Capability{8, 0}, {8, 9}, {10, 0}})
      EXPECT_EQ(choose(changed(map, [](Descriptor&) {}), card), Family::plain);
  }
}

TEST(LinearBf16Choice, ALibraryHasNoGroups) {
  const auto taken = [](const auto& change) { return cuda::library::takes(changed(Map::forward, change)); };
  EXPECT_FALSE(taken([](Descriptor&) {}));
  EXPECT_TRUE(taken([](Descriptor& d) { d.grouped = false, d.num_groups = 1; }));
}

struct Case {
  std::int64_t M, N, K;
  bool fits;
  std::vector<std::int32_t> offsets;  ///< empty: not grouped
};
const Case cases[] = {
    {150, 128, 256, true, {0, 0, 70, 70, 71, 150, 150}},
    {150, 136, 72, true, {0, 5, 5, 133}},  // rows from 133 on are nobody's
    {40, 8, 8, true, {2, 40}},
    {90, 132, 128, false, {0, 0, 90, 90}},
    {90, 128, 12, false, {0, 45, 45, 90}},
    {40, 48, 72, true, {}},  // too small for cuBLASLt
    {40, 50, 72, false, {}},
};

TEST(LinearBf16Choice, WhatIsChosenRunsAndAgreesWithTheCpu) {
  ThreadPool pool(1);
  Random random(1);
  for (const Case& c : cases) {
    const std::int64_t E = c.offsets.empty() ? 0 : std::ssize(c.offsets) - 1;
    const Shape w_shape = E > 0 ? Shape{E, c.N, c.K} : Shape{c.N, c.K};
    const Buffer x = drawn(random, DType::bf16, {c.M, c.K}, Values::normal),
                 w = drawn(random, DType::bf16, w_shape, Values::normal),
                 dy = drawn(random, DType::bf16, {c.M, c.N}, Values::normal);
    for (const DType out : {DType::bf16, DType::f32})
      for (const Map map : {Map::forward, Map::backward_input, Map::backward_weight}) {
        if (map == Map::backward_weight && out == DType::bf16) continue;
        SCOPED_TRACE(fmt::format("{} x {} x {}, {} experts, map {}", c.M, c.N, c.K, E, static_cast<int>(map)));
        const auto call = [&](const Stream& stream) {
          const bool forward = map == Map::forward, weight = map == Map::backward_weight;
          Buffer y(out, weight ? w_shape : Shape{c.M, forward ? c.N : c.K});
          y.fill([](std::int64_t i) { return static_cast<double>(i % 7) / 8; });
          if (E > 0)
            forward  ? grouped_linear_forward(stream, x, w, c.offsets, y)
            : weight ? grouped_linear_backward_weight(stream, dy, x, c.offsets, y)
                     : grouped_linear_backward_input(stream, dy, w, c.offsets, y);
          else
            forward  ? linear_forward(stream, x, w, y)
            : weight ? linear_backward_weight(stream, dy, x, y)
                     : linear_backward_input(stream, dy, w, y);
          return y;
        };
        const Buffer cpu = call(Stream(pool));
        const auto before = hopper_bf16_products_on_card();
        const Buffer here = call(stream_of(pool));
        const auto after = hopper_bf16_products_on_card();
        for (std::int64_t i = 0; i < cpu->num_elements(); ++i) {
          const double rounding = out == DType::bf16 ? 0x1p-7 : 1e-5;
          ASSERT_NEAR(here.get(i), cpu.get(i), rounding * std::abs(cpu.get(i)) + 1e-4) << i;
        }
        if (!on_card() || !before) continue;  // not to be seen on a real card
        EXPECT_EQ(*after > *before, c.fits);
      }
  }
}

}  // namespace
}  // namespace fourmi
