// Operations that write rows with scales: the values are those of the same operation on f32 inputs (bf16 widened), and
// what becomes of them is what quantize makes of these.
#include <gtest/gtest.h>

#include "kernels/ops/permute.h"
#include "kernels/ops/rms_norm.h"
#include "kernels/ops/swiglu.h"
#include "tests/device/every_stream.h"
#include "tests/device/stream.h"
#include "tests/kernels/displaced.h"
#include "tests/kernels/scaled_test_data.h"

namespace fourmi {
namespace {

using namespace test;

struct Kind {
  DType input, output;
  Scaling scaling;
};
const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {DType::bf16, DType::e4m3_rows, {}},
      {DType::f32, DType::e4m3_rows, {ScaleKind::power_of_two, 1e-4F}},
      {DType::bf16, DType::mxe4m3_rows, {}},
  };
  return all;
}

Buffer widened(const Buffer& x) {
  Buffer y(DType::f32, x->shape);
  y.fill([&](std::int64_t i) { return x.get(i); });
  return y;
}

/// rows of q = values, by the definition.
Buffer quantized(const Buffer& values, const Kind& kind, QuantizeStatistics* stats = nullptr) {
  ThreadPool pool(1);
  Buffer q(kind.output, values->shape);
  quantize(Stream(pool, Isa::portable), values, q, kind.scaling, stats);
  return q;
}

void expect_equal(const QuantizeStatistics& a, const QuantizeStatistics& b) {
  EXPECT_EQ(a.num_elements, b.num_elements);
  EXPECT_EQ(a.num_saturated, b.num_saturated);
  EXPECT_EQ(a.num_underflows, b.num_underflows);
  EXPECT_EQ(a.num_not_finite, b.num_not_finite);
  EXPECT_TRUE(same_float(a.amax, b.amax));
  EXPECT_EQ(a.squares, b.squares);
  EXPECT_EQ(a.squared_error, b.squared_error);
}

TEST(ScaledProducers, RmsNorm) {
  if (on_card()) GTEST_SKIP() << "rstd has other bits: the next test";
  Random random(21);
  ThreadPool pool(1);
  for (const Kind& kind : kinds())
    for (const Values values : {Values::normal, Values::sparse, Values::bad}) {
      const std::int64_t M = 5, A = 310, D = 300;
      const RmsNorm norm{.epsilon = 1e-6, .x_column = 10, .y_column = 3};
      const Buffer x = drawn(random, kind.input, {M, A}, values), weight = noisy(DType::f32, {D}, 2);
      const Buffer x_f32 = widened(x), y_f32(DType::f32, {M, D}), rstd_f32(DType::f32, {M});
      rms_norm_forward(Stream(pool), {.epsilon = 1e-6, .x_column = 10}, x_f32, weight, y_f32, rstd_f32);
      QuantizeStatistics expected_stats;
      const Buffer expected = quantized(y_f32, kind, &expected_stats);
      on_every_stream([&](const Stream& stream) {
        for (const bool both : {false, true}) {
          Buffer q(kind.output, {M, D}), y(kind.input, {M, D + 3}), rstd(DType::f32, {M});
          QuantizeStatistics stats;
          rms_norm_forward(stream, norm, x, weight, both ? y.tensor() : Tensor{}, q, kind.scaling, rstd,
                           both ? &stats : nullptr);
          ASSERT_TRUE(same_bytes(q, expected));
          if (both) expect_equal(stats, expected_stats);
          for (std::int64_t r = 0; r < M; ++r) ASSERT_TRUE(same_float(rstd.at<float>(r), rstd_f32.at<float>(r)));
          for (std::int64_t i = 0; both && i < M * D; ++i) {
            const double want = round_to<double>(y_f32.at<float>(i)), got = y.get(i / D * (D + 3) + 3 + i % D);
            ASSERT_TRUE(
                want != want
                    ? got != got
                    : got == (kind.input == DType::bf16 ? static_cast<double>(bfloat16(y_f32.at<float>(i))) : want));
          }
        }
      });
    }
}

/// On a card the sum is in another order, but what follows from its rstd has the CPU's bits: x rstd weight in f32, its
/// rounding and its quantised form. Rows of whole vectors and not, of one warp and of several, of exactly what their
/// threads hold and of more than a card's block does; groups that end with the row and do not.
TEST(ScaledProducers, RmsNormFollowsFromItsScale) {
  struct Sizes {
    std::int64_t M, A, c, D, B, y_c;
  };
  Random random(25);
  ThreadPool pool(1);
  std::vector<Kind> all = kinds();
  all.push_back({DType::f32, DType::mxe4m3_rows, {}});
  for (const Kind& kind : all)
    for (const Sizes& k :
         {Sizes{5, 310, 10, 300, 303, 3}, Sizes{9, 600, 16, 512, 520, 8}, Sizes{3, 96, 8, 72, 72, 0},
          Sizes{2, 1536, 0, 1536, 1540, 4}, Sizes{2, 2056, 0, 2050, 2056, 0}, Sizes{1, 17000, 0, 16904, 16904, 0},
          Sizes{10, 7, 0, 7, 7, 0}, Sizes{9, 1032, 8, 1024, 1040, 16}, Sizes{3, 2048, 0, 2048, 2048, 0}})
      for (const Values values : {Values::normal, Values::wide, Values::sparse, Values::bad}) {
        SCOPED_TRACE(::testing::Message() << name_of(kind.output) << " of " << k.D);
        const RmsNorm norm{.epsilon = 1e-6, .x_column = k.c, .y_column = k.y_c};
        const Buffer x = drawn(random, kind.input, {k.M, k.A}, values), weight = noisy(DType::f32, {k.D}, 2);
        const Buffer q(kind.output, {k.M, k.D}), alone = q, y(kind.input, {k.M, k.B}), rstd(DType::f32, {k.M});
        const Buffer again = rstd, cpu = rstd, cpu_y = y;
        rms_norm_forward(Stream(pool), norm, x, weight, cpu_y, cpu);
        rms_norm_forward(stream_of(pool), norm, x, weight, y, q, kind.scaling, rstd);
        rms_norm_forward(stream_of(pool), norm, x, weight, {}, alone, kind.scaling, again);
        Buffer expected(DType::f32, {k.M, k.D});
        for (std::int64_t r = 0; r < k.M; ++r) {
          const float scale = rstd.at<float>(r), want = cpu.at<float>(r);
          ASSERT_TRUE(same_float(scale, want) || std::abs(scale - want) <= 64 * want * 0x1p-24F)
              << scale << " " << want;
          for (std::int64_t d = 0; d < k.D; ++d) {
            const auto in = static_cast<float>(x.get(r * k.A + k.c + d));
            expected.at<float>(r * k.D + d) = in * scale * weight.at<float>(d);
          }
        }
        ASSERT_TRUE(same_bytes(q, quantized(expected, kind)));
        ASSERT_TRUE(alone == q && again == rstd);
        for (std::int64_t i = 0; i < k.M * k.B; ++i) {
          const std::int64_t r = i / k.B, d = i % k.B - k.y_c;
          if (d < 0 || d >= k.D) {
            ASSERT_TRUE(is_poison(y, i));
            continue;
          }
          const float value = expected.at<float>(r * k.D + d);
          const double want = kind.input == DType::bf16 ? static_cast<double>(bfloat16(value)) : value;
          ASSERT_TRUE(want != want ? y.get(i) != y.get(i) : y.get(i) == want) << y.get(i) << " " << want;
        }
      }
}

TEST(ScaledProducers, SwiGlu) {
  Random random(22);
  ThreadPool pool(1);
  for (const Kind& kind : kinds())
    for (const Values values : {Values::normal, Values::sparse, Values::bad}) {
      const std::int64_t R = 6, F = 140, rows = 4;  // dgate and dup share a group
      const Buffer gate_up = drawn(random, kind.input, {R, 2 * F}, values);
      const Buffer dh = drawn(random, kind.input, {R, F}, Values::normal);
      const Buffer gate_up_f32 = widened(gate_up), dh_f32 = widened(dh);
      const Buffer h_f32(DType::f32, {rows, F}), dgate_up_f32(DType::f32, {rows, 2 * F});
      swiglu_forward(Stream(pool), gate_up_f32, h_f32, rows);
      swiglu_backward(Stream(pool), dh_f32, gate_up_f32, dgate_up_f32, rows);
      QuantizeStatistics forward_stats, backward_stats;
      const Buffer expected_h = quantized(h_f32, kind, &forward_stats);
      const Buffer expected_d = quantized(dgate_up_f32, kind, &backward_stats);
      on_every_stream([&](const Stream& stream) {
        for (const bool counts : {false, true}) {
          Buffer h(kind.output, {R, F}), d(kind.output, {R, 2 * F});
          const Buffer fresh_h = h, fresh_d = d;
          QuantizeStatistics forward, backward;
          swiglu_forward(stream, gate_up, h, kind.scaling, rows, counts ? &forward : nullptr);
          swiglu_backward(stream, dh, gate_up, d, kind.scaling, rows, counts ? &backward : nullptr);
          ASSERT_TRUE(same_bytes(h->rows(0, rows), expected_h));
          ASSERT_TRUE(same_bytes(d->rows(0, rows), expected_d));
          ASSERT_TRUE(same_bytes(h->rows(rows, R), fresh_h->rows(rows, R)));
          ASSERT_TRUE(same_bytes(d->rows(rows, R), fresh_d->rows(rows, R)));
          if (counts) expect_equal(forward, forward_stats), expect_equal(backward, backward_stats);
        }
      });
    }
}

/// 7 tokens with 3 choices each of 4 experts, some absent.
struct Plan {
  Buffer experts{DType::i32, {7, 3}}, row_token{DType::i32, {21}}, row_of{DType::i32, {7, 3}};
  std::vector<std::int32_t> offsets = std::vector<std::int32_t>(5);
  std::int64_t rows = 0;
  Plan() {
    experts.fill([](std::int64_t i) {
      const std::int64_t t = i / 3, k = i % 3;
      return (t + k) % 3 == 0 ? -1.0 : static_cast<double>(k + (t % 2));
    });
    ThreadPool pool(1);
    permute_plan(stream_of(pool), experts, offsets, row_token, row_of);
    rows = offsets.back();
  }
};

TEST(ScaledProducers, PermuteMovesRowsWithTheirScales) {
  const Plan plan;
  Random random(23);
  for (const DType dtype : {DType::e4m3_rows, DType::mxe4m3_rows})
    for (const std::int64_t D : {100, 128, 257}) {
      const Buffer q = quantized(widened(drawn(random, DType::f32, {7, D}, Values::wide)), {DType::f32, dtype, {}});
      on_streams([&](const Stream& stream) {
        Buffer rows(dtype, {plan.rows, D});
        permute_forward(stream, q, plan.row_token, rows);
        for (std::int64_t r = 0; r < plan.rows; ++r) {
          const std::int64_t t = plan.row_token.id(r);
          ASSERT_TRUE(same_bytes(rows->rows(r, r + 1), q->rows(t, t + 1)));
        }
      });
    }
}

TEST(ScaledProducers, CombineBackward) {
  const Plan plan;
  Random random(24);
  ThreadPool pool(1);
  for (const Kind& kind : kinds())
    for (const DType dy_dtype : {kind.input, DType::e4m3_rows, DType::mxe4m3_rows}) {
      const std::int64_t D = 200;
      Buffer dy = drawn(random, kind.input, {7, D}, Values::normal);
      Buffer dy_f32 = widened(dy);
      if (has_scales(dy_dtype)) {
        dy = quantized(dy_f32, {DType::f32, dy_dtype, {}});
        dequantize(Stream(pool), dy, dy_f32);
      }
      const Buffer rows = drawn(random, kind.input, {plan.rows, D}, Values::normal), rows_f32 = widened(rows);
      const Buffer weights = noisy(DType::f32, {7, 3}, 5);
      const Buffer drows_f32(DType::f32, {plan.rows, D}), dweights_f32(DType::f32, {7, 3});
      combine_backward(Stream(pool), dy_f32, rows_f32, weights, plan.row_of, drows_f32, dweights_f32);
      QuantizeStatistics sums;
      const Buffer expected = quantized(drows_f32, kind, &sums);
      on_streams([&](const Stream& stream) {
        Buffer drows(kind.output, {plan.rows, D}), dweights(DType::f32, {7, 3});
        if (!on_card()) {  // which has no statistics
          QuantizeStatistics stats;
          combine_backward(stream, dy, rows, weights, plan.row_of, drows, kind.scaling, dweights, &stats);
          ASSERT_TRUE(same_bytes(drows, expected));
          ASSERT_TRUE(same_bytes(dweights, dweights_f32));
          EXPECT_EQ(stats.num_elements, sums.num_elements);
          EXPECT_EQ(stats.num_underflows, sums.num_underflows);
          EXPECT_NEAR(stats.squares, sums.squares, 1e-12 * sums.squares);  // by token here
        }
        Buffer again(kind.output, {plan.rows, D});
        combine_backward(stream, dy, rows, weights, plan.row_of, again, kind.scaling, dweights);
        ASSERT_TRUE(same_bytes(again, expected));
        for (std::int64_t i = 0; i < dweights.size(); ++i)  // a card sums in another order
          ASSERT_NEAR(dweights.get(i), dweights_f32.get(i), on_card() ? 1e-4 : 0.0);
      });
    }
}

// Rows of any length; a gradient that is not finite: its groups alone.
TEST(ScaledProducers, CombineBackwardOfOddRowsAndBadValues) {
  const Plan plan;
  Random random(25);
  ThreadPool pool(1);
  for (const Kind& kind : kinds())
    for (const DType dy_dtype : {kind.input, DType::e4m3_rows, DType::mxe4m3_rows})
      for (const std::int64_t D : {1, 31, 129, 256, 777}) {
        Buffer dy = drawn(random, kind.input, {7, D}, Values::bad);
        if (has_scales(dy_dtype)) dy = quantized(widened(dy), {DType::f32, dy_dtype, {}});
        const Buffer rows = drawn(random, kind.input, {plan.rows, D}, Values::normal);
        const Buffer weights = noisy(DType::f32, {7, 3}, 5);
        const Buffer drows(kind.output, {plan.rows, D}), drows_cpu = drows;
        const Buffer dweights(DType::f32, {7, 3}), dweights_cpu = dweights;
        combine_backward(stream_of(pool), dy, rows, weights, plan.row_of, drows, kind.scaling, dweights);
        combine_backward(Stream(pool), dy, rows, weights, plan.row_of, drows_cpu, kind.scaling, dweights_cpu);
        ASSERT_TRUE(same_bytes(drows, drows_cpu)) << D;
        for (std::int64_t i = 0; i < dweights.size(); ++i) {
          const double got = dweights.get(i), want = dweights_cpu.get(i);
          ASSERT_TRUE(want != want ? got != got : got == want || std::abs(got - want) < 1e-3) << got << ", " << want;
        }
      }
}

// Whole vectors are taken only where they begin at multiples of their size.
TEST(ScaledProducers, InputsAtAnyAddress) {
  const Plan plan;
  Random random(26);
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  for (const Kind& kind : kinds())
    for (const std::int64_t apart : {4, 16}) {
      const std::int64_t R = plan.rows, D = 64;
      const Buffer gate_up = drawn(random, kind.input, {R, 2 * D}, Values::normal);
      const Buffer rows = drawn(random, kind.input, {R, D}, Values::normal);
      const Buffer dy = drawn(random, kind.input, {7, D}, Values::normal), weights = noisy(DType::f32, {7, 3}, 5);
      const Displaced gate_up_there(gate_up, apart), rows_there(rows, apart), dy_there(dy, apart);
      const Buffer h(kind.output, {R, D}), d(kind.output, {R, 2 * D}), drows = h, dweights(DType::f32, {7, 3});
      const Buffer h_there = h, d_there = d, drows_there = h, dweights_there = dweights;
      swiglu_forward(s, gate_up, h, kind.scaling, R);
      swiglu_forward(s, gate_up_there, h_there, kind.scaling, R);
      EXPECT_TRUE(h_there == h);
      swiglu_backward(s, rows, gate_up, d, kind.scaling, R);
      swiglu_backward(s, rows_there, gate_up_there, d_there, kind.scaling, R);
      EXPECT_TRUE(d_there == d);
      combine_backward(s, dy, rows, weights, plan.row_of, drows, kind.scaling, dweights);
      combine_backward(s, dy_there, rows_there, weights, plan.row_of, drows_there, kind.scaling, dweights_there);
      EXPECT_TRUE(drows_there == drows);
      EXPECT_TRUE(dweights_there == dweights);
    }
}

TEST(ScaledProducers, ACardRefusesRowsWithScalesAtOddAddresses) {
  const Plan plan;
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  const std::int64_t R = plan.rows;
  const Buffer x(DType::f32, {R, 64}), weight(DType::f32, {64}), rstd(DType::f32, {R}), dy(DType::f32, {7, 64});
  const Buffer weights(DType::f32, {7, 3}), dweights = weights;
  const Displaced q(Buffer(DType::e4m3_rows, {R, 64}), 4), half(Buffer(DType::e4m3_rows, {R, 32}), 4);
  expect_on_cpu_alone([&] { rms_norm_forward(s, {}, x, weight, {}, q, {}, rstd); });
  expect_on_cpu_alone([&] { swiglu_forward(s, x, half, {}, R); });
  expect_on_cpu_alone([&] { combine_backward(s, dy, x, weights, plan.row_of, q, {}, dweights); });
}

TEST(ScaledProducers, RefuseWhatDoesNotFit) {
  ThreadPool pool(1);
  const Stream stream(pool);
  const Buffer x(DType::f32, {2, 8}), weight(DType::f32, {8}), rstd(DType::f32, {2});
  const Buffer narrow_q(DType::e4m3_rows, {2, 7}), panels(DType::e4m3_panels, {2, 8}), f64(DType::f64, {2, 8});
  EXPECT_ANY_THROW(rms_norm_forward(stream, {}, x, weight, {}, narrow_q, {}, rstd));
  EXPECT_ANY_THROW(rms_norm_forward(stream, {}, x, weight, {}, panels, {}, rstd));
  EXPECT_ANY_THROW(rms_norm_forward(stream, {}, f64, weight, {}, Buffer(DType::e4m3_rows, {2, 8}), {}, rstd));
  EXPECT_ANY_THROW(swiglu_forward(stream, x, Buffer(DType::e4m3_rows, {2, 5}), {}, 2));
}

}  // namespace
}  // namespace fourmi
