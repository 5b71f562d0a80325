// SwiGLU into bf16 and into rows with scales, element by element, in all forms that a card has. A card's sigmoid is not
// the CPU's to the bit there, so each result has to be what some value within the sigmoid's error rounds to: of nearly
// all elements that is a single one. The CPU's has no error.
#include <gtest/gtest.h>

#include "kernels/numerics/math.h"
#include "kernels/ops/swiglu.h"
#include "tests/device/stream.h"
#include "tests/kernels/displaced.h"
#include "tests/kernels/scaled_test_data.h"

namespace fourmi {
namespace {

using namespace test;

struct Interval {
  float low, high;
};
struct Form {
  DType input, output;
  Scaling scaling;
};

/// Of sigmoid(gate), relative: the rounding of gate log2(e), which counts where e^-gate is not small beside 1, ex2
/// (2^-22), rcp (2^-23) and the CPU's own.
float error_of(float gate) {
  return on_card() ? (16 + 2 * std::max(-gate, 0.0F)) * 0x1p-24F : 0;
}
/// About `value`, of which a part of magnitude `part` has the error of sigmoid(gate). A sigmoid
/// below 2^-126 may be 0.
Interval about(float value, float part, float gate, float factors) {
  if (!std::isfinite(value)) return {value, value};
  const float e =
      error_of(gate) * std::abs(part) + (on_card() && gate > -104 && gate < -86 ? 0x1p-118F * std::abs(factors) : 0);
  return {value - e, value + e};
}

struct Expected {
  std::vector<Interval> h, dgate_up;  ///< rows, columns
};
Expected expected_of(const Buffer& gate_up, const Buffer& dh, std::int64_t rows, std::int64_t F) {
  Expected x{std::vector<Interval>(static_cast<std::size_t>(rows * F)),
             std::vector<Interval>(static_cast<std::size_t>(rows * 2 * F))};
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t f = 0; f < F; ++f) {
      const auto g = static_cast<float>(gate_up.get(r * 2 * F + f)),
                 u = static_cast<float>(gate_up.get((2 * r + 1) * F + f));
      const auto d = static_cast<float>(dh.get(r * F + f));
      const float s = sigmoid(g), a = g * s, h = silu(g) * u, dgate = d * u * fma(a, 1 - s, s),
                  dup = d * a;  // 1 - s is 0 from 17.4 on
      x.h[static_cast<std::size_t>(r * F + f)] = about(h, h, g, g * u);
      x.dgate_up[static_cast<std::size_t>(r * 2 * F + f)] =
          about(dgate, d * u * s * (1 + std::abs(std::min(g, 18.0F))), g, d * u * g);
      x.dgate_up[static_cast<std::size_t>((2 * r + 1) * F + f)] = about(dup, dup, g, d * g);
    }
  return x;
}

bool is_finite(const Interval& i) {
  return std::isfinite(i.low) && std::isfinite(i.high);
}
float magnitude_of(const Interval& i, bool least) {
  const float a = std::abs(i.low), b = std::abs(i.high);
  return least ? ((i.low < 0) != (i.high < 0) ? 0 : std::min(a, b)) : std::max(a, b);
}

/// How many elements could have been one of two or more: few, or this is no test.
struct Tally {
  std::int64_t free = 0, all = 0;
  ~Tally() { EXPECT_LE(free * 50, all) << free << " of " << all; }
};

void expect_rows(const Buffer& q, const std::vector<Interval>& values, std::int64_t rows, const Form& form,
                 Tally& tally) {
  const std::int64_t K = q->dim(1), group = form.output == DType::mxe4m3_rows ? 32 : 128;
  const ScaleKind kind = group == 32 ? ScaleKind::power_of_two : form.scaling.kind;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t first = 0; first < K; first += group) {
      const Interval* const v = values.data() + r * K;
      const std::int64_t end = std::min(first + group, K);
      Interval amax{form.scaling.floor, form.scaling.floor};
      bool finite = true;
      for (std::int64_t c = first; c < end; ++c) {
        finite = finite && is_finite(v[c]);
        amax = {std::max(amax.low, magnitude_of(v[c], true)), std::max(amax.high, magnitude_of(v[c], false))};
      }
      const float scale = element_scale(q, r, first);
      if (!finite) {
        ASSERT_NE(scale, scale) << r << " " << first;
        for (std::int64_t c = first; c < end; ++c) ASSERT_EQ(element_at(q, r, c), 0x7f);
        continue;
      }
      const bool two = kind == ScaleKind::power_of_two;
      if (amax.low > 0 || scale != 1) {  // of nothing but zeros it is 1
        ASSERT_GE(scale, amax.low > 0 ? scale_in_double(amax.low, two) : 0) << r << " " << first;
        ASSERT_LE(scale, scale_in_double(amax.high, two)) << r << " " << first;
      }
      int exponent;
      ASSERT_TRUE(!two || std::frexp(scale, &exponent) == 0.5F) << scale;
      for (std::int64_t c = first; c < end; ++c) {
        const auto value = [](std::uint8_t bits) { return static_cast<float>(float8_e4m3::from_bits(bits)); };
        const std::uint8_t low = element_of(v[c].low, scale), high = element_of(v[c].high, scale);
        const std::uint8_t got = element_at(q, r, c);
        ASSERT_TRUE(value(low) <= value(got) && value(got) <= value(high))
            << r << " " << c << ": " << value(got) << " of " << v[c].low << " to " << v[c].high << " over " << scale;
        tally.free += value(low) != value(high), ++tally.all;
      }
    }
}
void expect_bf16(const Buffer& y, const std::vector<Interval>& values, Tally& tally) {
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(values.size()); ++i) {
    const Interval v = values[static_cast<std::size_t>(i)];
    const auto low = static_cast<float>(bfloat16(v.low)), high = static_cast<float>(bfloat16(v.high));
    const auto got = static_cast<float>(y.get(i));
    ASSERT_TRUE(v.low == v.low && v.high == v.high ? low <= got && got <= high : got != got)
        << i << ": " << got << " of " << v.low << " to " << v.high;
    tally.free += low < high, ++tally.all;
  }
}

/// Behind a row's scales are zeros, and rows from `rows` on are as they were.
void expect_rest_untouched(const Buffer& q, std::int64_t rows) {
  const std::int64_t K = q->dim(1), group = q->dtype == DType::mxe4m3_rows ? 32 : 128;
  const std::int64_t used = K + (K + group - 1) / group * (group == 32 ? 1 : 4),
                     bytes = ScaledFormat::row_bytes(q->dtype, K);
  const auto* const data = static_cast<const std::uint8_t*>(q->data);
  for (std::int64_t r = 0; r < q->dim(0); ++r)
    for (std::int64_t i = r < rows ? used : 0; i < bytes; ++i)
      ASSERT_EQ(data[r * bytes + i], r < rows ? 0 : 0xff) << r << " " << i;
}

/// F: odd; even; whole eights; whole groups of 32; of 128; more than a block's share, and rows of it at once.
const std::vector<std::array<std::int64_t, 2>> sizes = {{1, 1},   {5, 7},   {3, 36},   {5, 72},   {4, 96},   {3, 128},
                                                        {3, 140}, {7, 384}, {37, 256}, {2, 1416}, {3, 2080}, {9, 2056}};

TEST(SwiGlu, EveryElementInEightBits) {
  Random random(27);
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  for (const Form& form : {Form{DType::bf16, DType::e4m3_rows, {}}, Form{DType::bf16, DType::mxe4m3_rows, {}},
                           Form{DType::bf16, DType::e4m3_rows, {ScaleKind::power_of_two, 1e-4F}},
                           Form{DType::f32, DType::e4m3_rows, {}}, Form{DType::f32, DType::mxe4m3_rows, {}}})
    for (const Values kind : {Values::normal, Values::wide, Values::sparse, Values::bad}) {
      Tally tally;
      for (const auto& [rows, F] : sizes) {
        SCOPED_TRACE(::testing::Message() << name_of(form.input) << " to " << name_of(form.output) << ", " << rows
                                          << " rows of " << F << ", values " << static_cast<int>(kind));
        const Buffer gate_up = drawn(random, form.input, {rows + 1, 2 * F}, kind);
        const Buffer dh = drawn(random, form.input, {rows + 1, F}, Values::normal);
        const Expected expected = expected_of(gate_up, dh, rows, F);
        const Buffer h(form.output, {rows + 1, F}), d(form.output, {rows + 1, 2 * F});
        swiglu_forward(s, gate_up, h, form.scaling, rows);
        swiglu_backward(s, dh, gate_up, d, form.scaling, rows);
        ASSERT_NO_FATAL_FAILURE(expect_rows(h, expected.h, rows, form, tally));
        ASSERT_NO_FATAL_FAILURE(expect_rows(d, expected.dgate_up, rows, form, tally));
        ASSERT_NO_FATAL_FAILURE(expect_rest_untouched(h, rows));
        ASSERT_NO_FATAL_FAILURE(expect_rest_untouched(d, rows));
        // The same bits once more, and from elsewhere, where a card has another form.
        const Displaced gate_up_there(gate_up, size_of(form.input)), dh_there(dh, size_of(form.input));
        const Buffer h_again(form.output, h->shape), d_again(form.output, d->shape), h_there = h_again,
                                                                                     d_there = d_again;
        swiglu_forward(s, gate_up, h_again, form.scaling, rows);
        swiglu_backward(s, dh, gate_up, d_again, form.scaling, rows);
        swiglu_forward(s, gate_up_there, h_there, form.scaling, rows);
        swiglu_backward(s, dh_there, gate_up_there, d_there, form.scaling, rows);
        ASSERT_TRUE(h_again == h && d_again == d);
        ASSERT_TRUE(h_there == h && d_there == d);
      }
    }
}

TEST(SwiGlu, EveryElementInBf16) {
  Random random(28);
  ThreadPool pool(1);
  const Stream s = stream_of(pool);
  for (const Values kind : {Values::normal, Values::wide, Values::sparse, Values::bad}) {
    Tally tally;
    for (const auto& [rows, F] : sizes) {
      SCOPED_TRACE(::testing::Message() << rows << " rows of " << F << ", values " << static_cast<int>(kind));
      const Buffer gate_up = drawn(random, DType::bf16, {rows + 1, 2 * F}, kind);
      const Buffer dh = drawn(random, DType::bf16, {rows + 1, F}, Values::normal);
      const Expected expected = expected_of(gate_up, dh, rows, F);
      const Buffer h(DType::bf16, {rows + 1, F}), d(DType::bf16, {rows + 1, 2 * F});
      swiglu_forward(s, gate_up, h, rows);
      swiglu_backward(s, dh, gate_up, d, rows);
      ASSERT_NO_FATAL_FAILURE(expect_bf16(h, expected.h, tally));
      ASSERT_NO_FATAL_FAILURE(expect_bf16(d, expected.dgate_up, tally));
      for (std::int64_t i = rows * F; i < h.size(); ++i) ASSERT_TRUE(is_poison(h, i)) << i;
      for (std::int64_t i = rows * 2 * F; i < d.size(); ++i) ASSERT_TRUE(is_poison(d, i)) << i;
    }
  }
}

}  // namespace
}  // namespace fourmi
