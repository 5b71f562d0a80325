// Matrices of e4m3 elements for the tests of products. Where elements and scales lie is written down here by walking
// through the memory once, and quantising is by the definition in double: nothing of kernels/cpu is used.
#pragma once

#include <algorithm>
#include <optional>

#include "kernels/numerics/float8.h"
#include "tests/kernels/linear_test_data.h"

namespace fourmi::test {

inline double e4m3_value(std::uint8_t bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  if ((bits & 127) == 127) return std::numeric_limits<double>::quiet_NaN();
  const double magnitude = exponent ? std::ldexp(8 + fraction, exponent - 10) : std::ldexp(fraction, -9);
  return bits & 128 ? -magnitude : magnitude;
}

/// What random elements and scales look like.
enum class Style { plain, denormal, extreme, wild_scales, not_a_number };

inline std::uint8_t random_element(Random& random, Style style) {
  const auto sign = static_cast<std::uint8_t>(pick(random, 0, 1) << 7);
  std::int64_t magnitude = pick(random, 0, 126);
  if (style == Style::denormal) magnitude = pick(random, 0, 8);
  if (style == Style::extreme) magnitude = pick(random, 0, 1) ? pick(random, 120, 126) : pick(random, 0, 3);
  if (style == Style::not_a_number && pick(random, 0, 500) == 0) magnitude = 127;
  return static_cast<std::uint8_t>(sign | magnitude);
}

inline float random_scale(Random& random, Style style, bool power_of_two) {
  int exponent = static_cast<int>(pick(random, -6, 3));
  if (style == Style::wild_scales) exponent = static_cast<int>(pick(random, -126, 119));
  if (style == Style::not_a_number && pick(random, 0, 30) == 0) return std::numeric_limits<float>::quiet_NaN();
  const float fraction = power_of_two ? 1 : 1 + static_cast<float>(pick(random, 0, 1 << 23)) * 0x1p-24F;
  return std::ldexp(fraction, exponent);
}

/// E matrices of N rows and K columns (E = 0: one, of rank 2) of a dtype with scales.
class Float8 {
 public:
  Float8(DType dtype, std::int64_t E, std::int64_t N, std::int64_t K, std::int64_t skew = 0)
      : dtype_(dtype), shape_(E ? Shape{E, N, K} : Shape{N, K}), K_(K), skew_(skew) {
    const std::int64_t block = dtype == DType::mxe4m3_rows ? 32 : 128,
                       scale_bytes = dtype == DType::mxe4m3_rows ? 1 : 4;
    const std::int64_t panel = dtype == DType::e4m3_panels ? 128 : 1, blocks = (K + block - 1) / block;
    std::int64_t at = skew;
    for (std::int64_t e = 0; e < std::max<std::int64_t>(E, 1); ++e)
      for (std::int64_t n = 0; n < N; n += panel) {
        const std::int64_t rows = std::min(panel, N - n), scales = at + rows * K;
        for (std::int64_t i = 0; i < rows * K; ++i) {
          element_at.push_back(at + i);
          scale_at.push_back(scales + i % K / block * scale_bytes);
        }
        at = scales + blocks * scale_bytes;
        at += (16 - (at - (panel == 1 ? skew : scales)) % 16) % 16;  // a row is padded, or of a panel its scales
      }
    bytes.assign(static_cast<std::size_t>(at), 0);
  }

  Tensor tensor() { return {bytes.data() + skew_, dtype_, shape_}; }
  std::int64_t size() const { return static_cast<std::int64_t>(element_at.size()); }
  std::uint8_t& q(std::int64_t i) { return bytes[static_cast<std::size_t>(element_at[static_cast<std::size_t>(i)])]; }
  float scale(std::int64_t i) const {
    const std::uint8_t* at = bytes.data() + scale_at[static_cast<std::size_t>(i)];
    if (dtype_ == DType::mxe4m3_rows)
      return *at == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0F, *at - 127);
    float s;
    std::memcpy(&s, at, sizeof(s));
    return s;
  }
  void set_scale(std::int64_t i, float s) {
    std::uint8_t* at = bytes.data() + scale_at[static_cast<std::size_t>(i)];
    if (dtype_ == DType::mxe4m3_rows)
      *at = static_cast<std::uint8_t>(std::isnan(s) ? 255 : std::ilogb(s) + 127);
    else
      std::memcpy(at, &s, sizeof(s));
  }
  double value(std::int64_t row, std::int64_t col) {
    return e4m3_value(q(row * K_ + col)) * static_cast<double>(scale(row * K_ + col));
  }

  Float8& randomise(Random& random, Style style = Style::plain) {
    for (std::int64_t i = 0; i < size(); ++i) {
      q(i) = random_element(random, style);
      set_scale(i, random_scale(random, style, dtype_ == DType::mxe4m3_rows));
    }
    return *this;
  }
  /// x: as many values as elements.
  Float8& quantise(TypedBuffer& x) {
    std::vector<double> amax(bytes.size(), 0);
    for (std::int64_t i = 0; i < size(); ++i) {
      double& largest = amax[static_cast<std::size_t>(scale_at[static_cast<std::size_t>(i)])];
      largest = std::max(largest, std::abs(x.get(i)));
    }
    for (std::int64_t i = 0; i < size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      const auto s = static_cast<float>(amax[static_cast<std::size_t>(scale_at[at])] / 448);
      set_scale(i, dtype_ == DType::mxe4m3_rows ? std::exp2(std::ceil(std::log2(s))) : s);
      q(i) = float8_e4m3(static_cast<float>(x.get(i) / static_cast<double>(scale(i)))).bits;
    }
    return *this;
  }

  std::vector<std::uint8_t> bytes;
  std::vector<std::int64_t> element_at, scale_at;  ///< of element i, in row order

 private:
  DType dtype_;
  Shape shape_;
  std::int64_t K_, skew_;
};

/// The runs that partials of a weight gradient sum, by brute force: rows of one expert with equal token / cut.
inline std::vector<std::int64_t> group_of_rows(const std::vector<std::int32_t>& offsets, std::int64_t num_rows,
                                               const Cuts& cuts, std::int64_t group_rows) {
  const std::vector<std::int32_t> whole{0, static_cast<std::int32_t>(num_rows)};
  std::vector<std::int64_t> group(static_cast<std::size_t>(num_rows), -1);
  std::int64_t next = -1, rows_of_group = 0;
  std::optional<std::pair<std::size_t, std::int64_t>> run;
  const std::vector<std::int32_t>& all = offsets.empty() ? whole : offsets;
  for (std::size_t e = 0; e + 1 < all.size(); ++e)
    for (std::int64_t r = all[e]; r < all[e + 1]; ++r) {
      const std::int64_t token = cuts.row_token ? cuts.row_token[r] : r;
      const std::pair<std::size_t, std::int64_t> mine{e, cuts.rows ? token / cuts.rows : 0};
      if (run != mine || rows_of_group == group_rows) ++next, rows_of_group = 0;
      run = mine;
      ++rows_of_group;
      group[static_cast<std::size_t>(r)] = next;
    }
  return group;
}

/// A ColumnScaled with memory. group[m]: the group of row m, -1 for rows outside of all runs. `transposed`: as on a GPU
/// (kernels/ops/column_scaled.h).
class Columns {
 public:
  Columns(Shape shape, std::vector<std::int64_t> group, std::int64_t group_rows, bool transposed = false)
      : group_(std::move(group)),
        shape_(shape),
        K_(shape[shape.rank - 1]),
        group_rows_(group_rows),
        transposed_(transposed) {
    num_groups_ = group_.empty() ? 0 : *std::max_element(group_.begin(), group_.end()) + 1;
    scales.assign(static_cast<std::size_t>((num_groups_ + 1) * K_), std::numeric_limits<float>::quiet_NaN());
    const std::int64_t room = transposed ? std::max(places() * K_, shape.num_elements()) : shape.num_elements();
    elements.assign(static_cast<std::size_t>(room), 0x7f);
    if (!transposed) return;
    std::vector<std::int64_t> rows_of(static_cast<std::size_t>(num_groups_), 0);
    for (const std::int64_t g : group_)
      place_.push_back(g < 0 ? 0 : g * group_rows + rows_of[static_cast<std::size_t>(g)]++);
    for (std::int64_t k = 0; k < K_; ++k)  // zeros, also where no row comes
      std::fill_n(elements.begin() + k * places(), num_groups_ * group_rows, std::uint8_t{0});
  }

  ColumnScaled scaled() {
    return {{elements.data(), DType::u8, shape_}, {scales.data(), DType::f32, {num_groups_ + 1, K_}}, group_rows_};
  }
  float& scale(std::int64_t row, std::int64_t col) {
    return scales[static_cast<std::size_t>(group_[static_cast<std::size_t>(row)] * K_ + col)];
  }
  std::uint8_t& q(std::int64_t row, std::int64_t col) {
    if (transposed_) return elements[static_cast<std::size_t>(col * places() + place_[static_cast<std::size_t>(row)])];
    return elements[static_cast<std::size_t>(row * K_ + col)];
  }
  double value(std::int64_t row, std::int64_t col) {
    return e4m3_value(q(row, col)) * static_cast<double>(scale(row, col));
  }

  Columns& randomise(Random& random, Style style = Style::plain) {
    for (std::size_t m = 0; m < group_.size(); ++m)
      for (std::int64_t k = 0; k < K_ && group_[m] >= 0; ++k) {
        q(static_cast<std::int64_t>(m), k) = random_element(random, style);
        scale(static_cast<std::int64_t>(m), k) = random_scale(random, style, group_rows_ == 32);
      }
    return *this;
  }
  Columns& quantise(TypedBuffer& x) {
    std::vector<double> amax(scales.size(), 0);
    const auto rows = static_cast<std::int64_t>(group_.size());
    for (std::int64_t m = 0; m < rows; ++m)
      for (std::int64_t k = 0; k < K_; ++k) {
        double& largest = amax[static_cast<std::size_t>(&scale(m, k) - scales.data())];
        largest = std::max(largest, std::abs(x.get(m * K_ + k)));
        const auto s = static_cast<float>(largest / 448);
        scale(m, k) = group_rows_ == 32 ? std::exp2(std::ceil(std::log2(s))) : s;
      }
    for (std::int64_t m = 0; m < rows; ++m)
      for (std::int64_t k = 0; k < K_; ++k)
        q(m, k) = float8_e4m3(static_cast<float>(x.get(m * K_ + k) / static_cast<double>(scale(m, k)))).bits;
    return *this;
  }

  std::vector<std::uint8_t> elements;
  std::vector<float> scales;

 private:
  std::int64_t places() const { return (num_groups_ + 1) * group_rows_; }

  std::vector<std::int64_t> group_, place_;
  Shape shape_;
  std::int64_t K_, group_rows_, num_groups_ = 0;
  bool transposed_;
};

/// Equal bits, except that any NaN equals any NaN.
inline bool same(TypedBuffer& a, TypedBuffer& b) {
  if (a == b) return true;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    if (a.tensor().dtype == DType::fx128) {
      if (a.data<int128>()[i] != b.data<int128>()[i]) return false;
      continue;
    }
    const double x = a.get(i), y = b.get(i);
    if (!(std::isnan(x) && std::isnan(y)) && (x != y || std::signbit(x) != std::signbit(y))) return false;
  }
  return true;
}

}  // namespace fourmi::test
