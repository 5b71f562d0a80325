#include <gtest/gtest.h>

#include "kernels/ops/quantize.h"
#include "tests/device/stream.h"
#include "tests/kernels/scaled_test_data.h"

namespace fourmi {
namespace {

using namespace test;

constexpr ColumnScale all_rules[] = {ColumnScale::f32, ColumnScale::power_of_two, ColumnScale::largest};

struct Scene {
  Buffer q;
  std::vector<std::int32_t> offsets;
  Cuts cuts;
  std::int64_t group_rows;
};

float value(std::uint8_t element, float scale) {
  return static_cast<float>(float8_e4m3::from_bits(element)) * scale;
}

/// The definition, column by column; returns the number of lossy elements.
std::int64_t expect_definition(const Scene& scene, ColumnScale rule, const ColumnsUnderTest& out) {
  const Tensor& q = scene.q;
  const std::int64_t K = q.dim(1);
  std::int64_t lossy = 0;
  out.groups(scene.offsets, scene.cuts).for_each_group([&](const RowGroup& g) {
    for (std::int64_t c = 0; c < K; ++c) {
      std::vector<float> d;
      float largest = 0;
      for (std::int64_t r = g.begin; r < g.end; ++r) {
        d.push_back(value(element_at(q, r, c), element_scale(q, r, c)));
        const float s = element_scale(q, r, c);
        largest = s != s || largest != largest ? std::numeric_limits<float>::quiet_NaN() : std::max(largest, s);
      }
      const float s =
          rule == ColumnScale::largest ? largest : scale_in_double(amax_of(d, 0), rule == ColumnScale::power_of_two);
      ASSERT_TRUE(same_float(out.scale(g, c), s)) << g.index << " " << c;
      for (std::int64_t r = g.begin; r < g.end; ++r) {
        const float x = d[static_cast<std::size_t>(r - g.begin)];
        const std::uint8_t want = x != x ? 0x7f : element_of(x, s);
        const std::uint8_t got = out.element(g, r, c);
        ASSERT_EQ(got, want) << r << " " << c << " of " << x << " by " << s;
        lossy += value(got, s) < x || value(got, s) > x;
      }
    }
  });
  return lossy;
}

/// What is no group's place is as it was; on a card a group's places behind its rows hold zeros.
void expect_nothing_else(const Scene& scene, const ColumnsUnderTest& out) {
  const RowGroups groups = out.groups(scene.offsets, scene.cuts);
  std::vector<bool> written(static_cast<std::size_t>(out.elements.size()), false);
  groups.for_each_group([&](const RowGroup& g) {
    for (std::int64_t r = g.begin; r < (on_card() ? g.begin + out.group_rows : g.end); ++r)
      for (std::int64_t c = 0; c < out.K; ++c) {
        written[static_cast<std::size_t>(out.place(g, r, c))] = true;
        ASSERT_TRUE(r < g.end || out.element(g, r, c) == 0) << "behind group " << g.index;
      }
  });
  for (std::int64_t i = 0; i < out.elements.size(); ++i)
    ASSERT_TRUE(written[static_cast<std::size_t>(i)] || is_poison(out.elements, i)) << i;
  for (std::int64_t i = groups.num_groups() * out.K; i < out.scales.size(); ++i) ASSERT_TRUE(is_poison(out.scales, i));
}

void check(const Scene& scene, ColumnScale rule) {
  const std::int64_t M = scene.q->dim(0), K = scene.q->dim(1);
  const std::int64_t G = RowGroups{scene.offsets, M, scene.cuts, scene.group_rows}.num_groups();
  std::vector<ColumnsUnderTest> first;  // the other streams' have the same bits
  std::int64_t first_lossy = 0;
  on_streams_under_test([&](const Stream& stream) {
    const ColumnsUnderTest out(M, K, G + 2, scene.group_rows);
    std::int64_t lossy = 1000;
    regroup_columns(stream, scene.q, out.columns(), rule, scene.offsets, scene.cuts, &lossy);
    if (!first.empty()) {
      ASSERT_TRUE(out == first[0] && lossy == first_lossy);
      return;
    }
    first = {out};
    first_lossy = lossy;
    EXPECT_EQ(lossy - 1000, expect_definition(scene, rule, out));
    expect_nothing_else(scene, out);
    if (!on_card()) return;
    const ColumnsUnderTest uncounted(M, K, G + 2, scene.group_rows);
    regroup_columns(stream, scene.q, uncounted.columns(), rule, scene.offsets, scene.cuts);
    ASSERT_TRUE(uncounted == out);
  });
}

TEST(RegroupColumns, IsTheDefinitionOnEveryIsa) {
  ThreadPool pool(1);
  const Stream plain(pool, Isa::portable);
  Random random(5);
  std::vector<std::int32_t> tokens(300);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * 2 + i % 2);
  for (const DType dtype : {DType::e4m3_rows, DType::mxe4m3_rows})
    for (const Values values : all_values)
      for (const ScaleKind kind : {ScaleKind::f32, ScaleKind::power_of_two})
        for (const std::int64_t K : {1, 30, 129}) {
          const std::int64_t M = 300;
          Buffer x = drawn(random, DType::f32, {M, K}, values);
          for (std::int64_t i = 0; i < x.size(); ++i)
            if (i % K == 3 || (i % K == 5 && i / K >= 128)) x.set(i, i % 2 ? -0.0 : 0.0);  // columns of zeros
          Buffer q(dtype, {M, K});
          quantize(plain, x, q, {.kind = kind});
          for (const auto& [offsets, cuts] : {std::pair<std::vector<std::int32_t>, Cuts>{{}, {}},
                                              {{2, 140, 140, 290}, {}},
                                              {{0, 150, 300}, {.rows = 70, .row_token = tokens.data()}},
                                              {{}, {.rows = 150}},
                                              {{3, 40, 290}, {.rows = 70}}})
            for (const ColumnScale rule : all_rules) {
              if (on_card() && cuts.row_token) continue;  // mode layout
              SCOPED_TRACE(::testing::Message() << name_of(dtype) << " values " << static_cast<int>(values) << " K "
                                                << K << " rule " << static_cast<int>(rule));
              check({q, offsets, cuts, dtype == DType::mxe4m3_rows ? 32 : 128}, rule);
              if (HasFatalFailure()) return;
            }
        }
}

/// Rows of any elements (each of 255 patterns) under scales far and near: rounding at every position.
TEST(RegroupColumns, OfAnyElementsAndScales) {
  Random random(6);
  for (int trial = 0; trial < 60; ++trial) {
    const std::int64_t M = 256, K = 70;
    Scene scene{Buffer(DType::e4m3_rows, {M, K}), {}, {}, 128};
    const int spread = trial % 20, base = trial < 20 ? 100 : trial < 40 ? 1 : 235;
    for (std::int64_t r = 0; r < M; ++r) {
      auto* row = static_cast<std::uint8_t*>(scene.q->data) + r * ScaledFormat::row_bytes(DType::e4m3_rows, K);
      for (std::int64_t c = 0; c < K; ++c) row[c] = static_cast<std::uint8_t>(random() % 256);
      const bool nan = trial % 5 == 0 && r < 128;  // else no NaN element
      for (std::int64_t c = 0; c < K && !nan; ++c)
        if ((row[c] & 0x7f) == 0x7f) row[c] = static_cast<std::uint8_t>(row[c] & 0x83);
      for (std::int64_t c = 0; c < K && trial % 4 == 3; ++c)  // columns far below the others
        row[c] = static_cast<std::uint8_t>(row[c] & (c % 7 == 3 ? 0x83 : c % 7 == 5 ? 0x80 : 0xff));
      const auto exponent =
          static_cast<std::uint32_t>(base + static_cast<int>(random() % static_cast<unsigned>(spread + 1)));
      const auto scale = std::bit_cast<float>(exponent << 23);
      std::memcpy(row + K, &scale, 4);
    }
    for (const ColumnScale rule : {ColumnScale::power_of_two, ColumnScale::largest}) {
      SCOPED_TRACE(::testing::Message() << "spread " << spread << " base " << base);
      check(scene, rule);
      if (HasFatalFailure()) return;
    }
  }
}

/// Widths of whole tiles and stripes of them, and what is left; runs of one row, and many of them.
TEST(RegroupColumns, OfManyColumnsAndRuns) {
  Random random(9);
  std::vector<std::int32_t> many{0};
  while (many.back() < 230) many.push_back(many.back() + static_cast<std::int32_t>(random() % 5));
  for (const DType dtype : {DType::e4m3_rows, DType::mxe4m3_rows})
    for (const auto& [M, K, offsets, cuts] :
         {std::tuple<std::int64_t, std::int64_t, std::vector<std::int32_t>, Cuts>{260, 1160, {}, {}},
          {40, 128, {}, {}},
          {1, 516, {}, {}},
          {300, 512, {0, 1, 1, 257, 299}, {}},
          {300, 256, {}, {.rows = 100}},
          {640, 136, {}, {.rows = 160}},
          {many.back(), 65, many, {}},
          {0, 64, {}, {}},
          {5, 64, {3, 3, 3}, {}}})
      for (const ColumnScale rule : all_rules) {
        SCOPED_TRACE(::testing::Message()
                     << name_of(dtype) << " " << M << " x " << K << " rule " << static_cast<int>(rule));
        const Buffer x = drawn(random, DType::f32, {M, K}, Values::wide);
        Buffer q(dtype, {M, K});
        ThreadPool pool(1);
        quantize(Stream(pool), x, q, {.kind = M % 20 ? ScaleKind::f32 : ScaleKind::power_of_two});
        check({q, offsets, cuts, dtype == DType::mxe4m3_rows ? 32 : 128}, rule);
        if (HasFatalFailure()) return;
      }
}

TEST(RegroupColumns, PowersOfTwoAreExactUnlessTheyUnderflow) {
  Random random(7);
  ThreadPool pool(2);
  const Stream stream = stream_of(pool);
  const std::int64_t M = 512, K = 256;
  const Buffer x = drawn(random, DType::bf16, {M, K}, Values::normal);
  Buffer q(DType::e4m3_rows, {M, K}), d(DType::f32, {M, K});
  const ColumnsUnderTest out(M, K, 4);
  quantize(stream, x, q, {.kind = ScaleKind::power_of_two});
  dequantize(stream, q, d);
  std::int64_t lossy = 0, small = 0;
  regroup_columns(stream, q, out.columns(), ColumnScale::power_of_two, {}, {}, &lossy);
  out.groups().for_each_group([&](const RowGroup& g) {
    for (std::int64_t i = g.begin * K; i < g.end * K; ++i) {
      const float s = out.scale(g, i % K), before = d.at<float>(i), now = value(out.element(g, i / K, i % K), s);
      if (now != before) {
        ++small;
        EXPECT_LT(std::fabs(before), 0x1p-6F * s);
      }
    }
  });
  EXPECT_EQ(lossy, small);
  EXPECT_LT(lossy, M * K / 1000);
  EXPECT_GT(lossy, 0);
}

TEST(RegroupColumns, OneScaleStaysAndSoDoElements) {
  Random random(8);
  ThreadPool pool(2);
  const Stream stream = stream_of(pool);
  const std::int64_t M = 300, K = 200;
  const Buffer x = drawn(random, DType::bf16, {M, K}, Values::normal);
  const std::int32_t runs[] = {0, static_cast<std::int32_t>(M)};
  Buffer q(DType::e4m3_rows, {M, K}), amax(DType::f32, {1});
  const ColumnsUnderTest out(M, K, 3);
  largest_magnitudes(stream, x, runs, amax);
  quantize_by(stream, x, q, {}, runs, amax);
  std::int64_t lossy = 0;
  regroup_columns(stream, q, out.columns(), ColumnScale::largest, {}, {}, &lossy);
  EXPECT_EQ(lossy, 0);
  out.groups().for_each_group([&](const RowGroup& g) {
    for (std::int64_t i = g.begin * K; i < g.end * K; ++i)
      ASSERT_EQ(out.element(g, i / K, i % K), element_at(q, i / K, i % K));
  });
  for (std::int64_t i = 0; i < 3 * K; ++i) ASSERT_EQ(out.scales.at<float>(i), element_scale(q, 0, 0));
}

/// Elements behind other memory: they begin at no multiple of 16 bytes.
TEST(RegroupColumns, OfAnyAddress) {
  ThreadPool pool(1);
  Buffer q(DType::e4m3_rows, {1, 3}), memory(DType::u8, {12 + 3 * 128});
  const Buffer x(DType::f32, {1, 3}, {1, -2, 0.5});
  quantize(Stream(pool), x, q, {});
  auto* const bytes = static_cast<std::uint8_t*>(memory->data);
  regroup_columns(stream_of(pool), q, {Tensor(bytes + 12, DType::u8, {1, 3}), Tensor(bytes, DType::f32, {1, 3})},
                  ColumnScale::f32);
  for (std::int64_t c = 0; c < 3; ++c) {
    EXPECT_EQ(bytes[12 + c * (on_card() ? 128 : 1)], c == 1 ? 0xfe : 0x7e);
    EXPECT_TRUE(!on_card() || bytes[12 + c * 128 + 127] == 0);
  }
}

TEST(RegroupColumns, RefusesWhatDoesNotFit) {
  ThreadPool pool(1);
  const Stream stream = stream_of(pool);
  Buffer q(DType::e4m3_rows, {4, 8}), elements(DType::u8, {128, 8}), scales(DType::f32, {1, 8});
  EXPECT_ANY_THROW(regroup_columns(stream, q, {elements, scales}, ColumnScale::f32, {}, {.rows = 2}));  // two groups
  EXPECT_ANY_THROW(regroup_columns(stream, elements, {elements, scales}, ColumnScale::f32));
  EXPECT_ANY_THROW(regroup_columns(stream, q, {elements->rows(0, 3), scales}, ColumnScale::f32));
  const std::int32_t offsets[] = {0, 5};
  EXPECT_ANY_THROW(regroup_columns(stream, q, {elements, scales}, ColumnScale::f32, offsets));
  if (!on_card()) return;
  EXPECT_ANY_THROW(regroup_columns(stream, q, {elements, scales, 32}, ColumnScale::f32));
}

}  // namespace
}  // namespace fourmi
