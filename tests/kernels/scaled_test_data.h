// Inputs for the tests of FP8 groups, and the definition of a group written a second time.
#pragma once

#include <limits>
#include <random>

#include "kernels/cpu/row_groups.h"
#include "kernels/ops/quantize.h"
#include "tests/device/stream.h"
#include "tests/kernels/buffers.h"

namespace fourmi::test {

using Random = std::mt19937_64;
using Bytes = std::vector<std::uint8_t>;

enum class Values : std::uint8_t { normal, wide, tiny, huge, sparse, bad };
inline constexpr Values all_values[] = {Values::normal, Values::wide,   Values::tiny,
                                        Values::huge,   Values::sparse, Values::bad};

inline double draw(Random& random, Values kind) {
  std::normal_distribution<double> normal;
  const double x = normal(random);
  const auto pick = random() % 64;
  switch (kind) {
    case Values::normal:
      return x;
    case Values::wide:
      return std::ldexp(x, static_cast<int>(random() % 60) - 30);
    case Values::tiny:  // around f32's denormals
      return std::ldexp(x, -126 - static_cast<int>(random() % 20));
    case Values::huge:
      return std::ldexp(x, 120 + static_cast<int>(random() % 5));
    case Values::sparse:
      return pick < 60 ? (pick % 2 ? -0.0 : 0.0) : x;
    case Values::bad:
      return pick == 0   ? std::numeric_limits<double>::quiet_NaN()
             : pick == 1 ? std::numeric_limits<double>::infinity()
             : pick == 2 ? -std::numeric_limits<double>::infinity()
                         : x;
  }
  return 0;
}
inline Buffer drawn(Random& random, DType dtype, Shape shape, Values kind) {
  Buffer b(dtype, shape);
  // In `bad` some rows are clean, so that clean groups stand beside others.
  const std::int64_t K = std::max<std::int64_t>(1, shape[shape.rank - 1]);
  b.fill([&](std::int64_t i) { return draw(random, kind == Values::bad && i / K % 2 ? Values::normal : kind); });
  return b;
}

/// The rule in double: one rounding to f32 where the rule rounds.
inline float scale_in_double(float amax, bool power_of_two) {
  if (!(amax <= std::numeric_limits<float>::max())) return std::numeric_limits<float>::quiet_NaN();
  if (amax == 0) return 1;
  const auto t = static_cast<float>(static_cast<double>(amax) / 448.0);
  if (!power_of_two) return std::max(t, 0x1p-126F);
  double p = 0x1p-126;
  while (p < static_cast<double>(t)) p *= 2;
  return static_cast<float>(p);
}
inline float amax_of(const std::vector<float>& x, float floor) {
  float amax = floor;
  for (const float v : x) {
    if (v != v || amax != amax) return std::numeric_limits<float>::quiet_NaN();
    amax = std::max(amax, std::fabs(v));
  }
  return amax;
}
inline std::uint8_t element_of(float x, float scale) {
  if (scale != scale) return 0x7f;
  return float8_e4m3(x * (1.0F / scale)).bits;
}
inline bool same_float(float a, float b) {
  return a == b || (a != a && b != b);
}

/// Reading a tensor with scales element by element.
inline float element_scale(const Tensor& q, std::int64_t row, std::int64_t column) {
  const std::int64_t K = q.dim(q.shape.rank - 1);
  const auto* data = static_cast<const std::uint8_t*>(q.data);
  float s;
  if (q.dtype == DType::e4m3_panels) {
    const std::int64_t N = q.dim(q.shape.rank - 2), panel = row % N / 128,
                       rows = std::min<std::int64_t>(128, N - panel * 128);
    const std::int64_t before = panel * ScaledFormat::panel_bytes(128, K);
    const std::int64_t matrix = ScaledFormat::panel_bytes(N, K);
    std::memcpy(&s, data + row / N * matrix + before + rows * K + 4 * (column / 128), 4);
    return s;
  }
  const std::uint8_t* scales = data + row * ScaledFormat::row_bytes(q.dtype, K) + K;
  if (q.dtype == DType::mxe4m3_rows) return static_cast<float>(float8_e8m0::from_bits(scales[column / 32]));
  std::memcpy(&s, scales + 4 * (column / 128), 4);
  return s;
}
inline std::uint8_t element_at(const Tensor& q, std::int64_t row, std::int64_t column) {
  const std::int64_t K = q.dim(q.shape.rank - 1);
  const auto* data = static_cast<const std::uint8_t*>(q.data);
  if (q.dtype != DType::e4m3_panels) return data[row * ScaledFormat::row_bytes(q.dtype, K) + column];
  const std::int64_t N = q.dim(q.shape.rank - 2), panel = row % N / 128;
  const std::int64_t matrix = ScaledFormat::panel_bytes(N, K);
  return data[row / N * matrix + (row % N) * K + panel * ScaledFormat::panel_scale_bytes(K) + column];
}

/// A ColumnScaled with memory for G groups, and where its elements are: on a card those of a column are neighbours, and
/// each group has all its places (kernels/ops/column_scaled.h).
struct ColumnsUnderTest {
  std::int64_t M, K, G, group_rows;
  Buffer elements, scales;
  ColumnsUnderTest(std::int64_t M_, std::int64_t K_, std::int64_t G_, std::int64_t group_rows_ = 128)
      : M(M_),
        K(K_),
        G(G_),
        group_rows(group_rows_),
        elements(DType::u8, {on_card() ? std::max(M, G * group_rows) * K : M * K}),
        scales(DType::f32, {G, K}) {}

  ColumnScaled columns() const { return {Tensor(elements->data, DType::u8, {M, K}), scales, group_rows}; }
  RowGroups groups(std::span<const std::int32_t> offsets = {}, const Cuts& cuts = {}) const {
    return {offsets, M, cuts, group_rows};
  }
  /// Of `row` of a group; on a card rows from the group's end on are its places that hold zeros.
  std::int64_t place(const RowGroup& g, std::int64_t row, std::int64_t column) const {
    return on_card() ? column * G * group_rows + g.index * group_rows + row - g.begin : row * K + column;
  }
  std::uint8_t element(const RowGroup& g, std::int64_t row, std::int64_t column) const {
    return static_cast<const std::uint8_t*>(elements->data)[place(g, row, column)];
  }
  float scale(const RowGroup& g, std::int64_t column) const { return scales.at<float>(g.index * K + column); }
  friend bool operator==(const ColumnsUnderTest& a, const ColumnsUnderTest& b) {
    return a.elements == b.elements && a.scales == b.scales;
  }
};

/// on_every_stream; on a card its one stream.
inline void on_streams_under_test(const std::function<void(const Stream&)>& body) {
  if (!on_card()) return on_every_stream(body);
  ThreadPool pool(1);
  body(stream_of(pool));
}

}  // namespace fourmi::test
