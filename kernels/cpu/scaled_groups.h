// Writing groups of elements that share a scale, and rows of them: what quantize and the operations that write their
// results quantised have in common.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/cpu/quantize_primitives.h"
#include "kernels/cpu/run_rows.h"
#include "kernels/numerics/lanes.h"
#include "kernels/ops/quantize.h"

namespace fourmi::float8 {

/// Adds what became of one group.
template <class X>
void count(const X* x, const Byte* q, std::int64_t n, float scale, QuantizeStatistics& s) {
  for (std::int64_t i = 0; i < n; ++i) {
    const double value = static_cast<double>(widen<float>(x[i]));
    const auto element = float8_e4m3::from_bits(q[i]);
    const bool zero = (q[i] & 0x7f) == 0;
    s.num_saturated += (q[i] & 0x7f) == 0x7e;
    s.num_underflows += zero && value != 0;
    s.num_not_finite += scale != scale;
    const float magnitude = static_cast<float>(value < 0 ? -value : value);
    if (!(magnitude <= s.amax)) s.amax = s.amax != s.amax ? s.amax : magnitude;
    if (scale != scale) continue;
    const double error = static_cast<double>(element) * static_cast<double>(scale) - value;
    s.squared_error += error * error;
    s.squares += value * value;
  }
  s.num_elements += n;
}

inline void store_scale(Byte* at, float scale) {
  std::memcpy(at, &scale, sizeof(scale));  // rows of any length: at any address
}
inline float load_scale(const Byte* at) {
  float scale;
  std::memcpy(&scale, at, sizeof(scale));
  return scale;
}

/// Groups of 128 (or 32) elements of a row, at most so many at a time.
inline constexpr std::int64_t most_groups = 32;

/// x in consecutive groups, of these scales; statistics on demand.
template <class X>
void encode_groups(const Primitives& p, const X* x, std::int64_t n, std::int64_t group, const float* scales,
                   const float* inverses, Byte* q, QuantizeStatistics* stats) {
  p.encode(x, n, group, inverses, q);
  for (std::int64_t begin = 0; begin < n; begin += group, ++scales) {
    const std::int64_t size = std::min(group, n - begin);
    if (*scales != *scales) std::memset(q + begin, nan_element, static_cast<std::size_t>(size));
    if (stats) count(x + begin, q + begin, size, *scales, *stats);
  }
}

/// Calls f with the type of x: float or bfloat16.
template <class F>
void visit_input(const Tensor& x, const char* what, const F& f) {
  if (x.dtype == DType::f32) return f(std::type_identity<float>{});
  FOURMI_CHECK(x.dtype == DType::bf16, "{} of {}", what, name_of(x.dtype));
  f(std::type_identity<bfloat16>{});
}

/// A tensor of e4m3_rows or mxe4m3_rows to be written row by row.
class ScaledRows {
 public:
  ScaledRows(const Stream& stream, const Tensor& q, const Scaling& scaling, QuantizeStatistics* stats = nullptr)
      : primitives_(&primitives(stream.isa())),
        data_(static_cast<Byte*>(q.data)),
        size_(q.dim(q.shape.rank - 1)),
        mx_(q.dtype == DType::mxe4m3_rows),
        stride_(ScaledFormat::row_bytes(q.dtype, size_)),
        kind_(mx_ ? ScaleKind::power_of_two : scaling.kind),
        floor_(std::bit_cast<std::uint32_t>(scaling.floor)),
        stats_(stats) {
    FOURMI_CHECK(q.dtype == DType::e4m3_rows || mx_, "rows of {}", name_of(q.dtype));
    FOURMI_CHECK(scaling.floor >= 0, "a floor of {}", scaling.floor);
  }

  std::int64_t size() const { return size_; }

  /// Row r = x, each group by its own amax.
  template <class X>
  void write(std::int64_t r, const X* x) const {
    write_by(r, x, [this, x](std::int64_t begin, std::int64_t n, float* scales, float* inverses) {
      std::uint32_t amax[most_groups];
      primitives_->amax(x + begin, n, group(), amax);
      for (std::int64_t i = 0; i < ScaledFormat::num_blocks(n, group()); ++i) {
        const GroupScale s = scale_of_bits(std::max(floor_, amax[i]), kind_);
        scales[i] = s.scale, inverses[i] = s.inverse;
      }
    });
  }
  /// Row r = x, its groups by these amax (bits), to which the floor applies.
  template <class X>
  void write(std::int64_t r, const X* x, const std::uint32_t* amax) const {
    write_by(r, x, [this, amax](std::int64_t begin, std::int64_t n, float* scales, float* inverses) {
      const std::uint32_t* const from = amax + begin / group();
      for (std::int64_t i = 0; i < ScaledFormat::num_blocks(n, group()); ++i) {
        const GroupScale s = scale_of_bits(std::max(floor_, from[i]), kind_);
        scales[i] = s.scale, inverses[i] = s.inverse;
      }
    });
  }
  /// Row r = x by one scale.
  template <class X>
  void write(std::int64_t r, const X* x, GroupScale scale) const {
    write_by(r, x, [scale](std::int64_t, std::int64_t, float* scales, float* inverses) {
      std::fill_n(scales, most_groups, scale.scale);
      std::fill_n(inverses, most_groups, scale.inverse);
    });
  }

 private:
  std::int64_t group() const { return mx_ ? ScaledFormat::mx_block : ScaledFormat::block; }

  /// scales_of(begin, n, scales, inverses) fills those of the groups of n elements from `begin` on.
  template <class X, class ScalesOf>
  void write_by(std::int64_t r, const X* x, const ScalesOf& scales_of) const {
    Byte* const row = data_ + r * stride_;
    Byte* to = row + size_;
    for (std::int64_t begin = 0; begin < size_; begin += most_groups * group()) {
      const std::int64_t n = std::min(most_groups * group(), size_ - begin);
      float scales[most_groups], inverses[most_groups];
      scales_of(begin, n, scales, inverses);
      encode_groups(*primitives_, x + begin, n, group(), scales, inverses, row + begin, stats_);
      for (std::int64_t i = 0; i < ScaledFormat::num_blocks(n, group()); ++i) {
        if (mx_) {
          *to++ = static_cast<Byte>(std::bit_cast<std::uint32_t>(scales[i]) >> 23);  // NaN: 0xff
        } else {
          store_scale(to, scales[i]);
          to += sizeof(float);
        }
      }
    }
    std::memset(to, 0, static_cast<std::size_t>(row + stride_ - to));
  }

  const Primitives* primitives_;
  Byte* data_;
  std::int64_t size_;
  bool mx_;
  std::int64_t stride_;
  ScaleKind kind_;
  std::uint32_t floor_;
  QuantizeStatistics* stats_;
};

/// d = the values of a row of K elements whose scales lie at `scales`; of e4m3_panels, e4m3_rows or mxe4m3_rows.
inline void decode_row(const Primitives& p, DType dtype, const Byte* row, const Byte* scales, std::int64_t K,
                       float* d) {
  const bool mx = dtype == DType::mxe4m3_rows;
  const std::int64_t group = mx ? ScaledFormat::mx_block : ScaledFormat::block;
  for (std::int64_t begin = 0; begin < K; begin += group, scales += mx ? 1 : sizeof(float)) {
    const float scale = mx ? static_cast<float>(float8_e8m0::from_bits(*scales)) : load_scale(scales);
    p.decode(row + begin, std::min(group, K - begin), scale, d + begin);
  }
}

/// A body of run_rows.h that writes ScaledRows: with threads, unless it counts.
template <class Body>
void run_scaled_rows(const Stream& stream, const QuantizeStatistics* stats, std::int64_t num_rows, std::int64_t grain,
                     const Body& body) {
  if (stats == nullptr) return run_rows(stream, num_rows, grain, body);
  run_rows_here(stream, num_rows, body);
}

/// Runs body(begin, end) over n rows or panels: with threads, unless it counts.
template <class Body>
void run_groups(const Stream& stream, const QuantizeStatistics* stats, std::int64_t n, std::int64_t grain,
                const Body& body) {
  if (stats == nullptr) return stream.pool().parallel_for(n, grain, body);
  if (n > 0) body(0, n);
}

}  // namespace fourmi::float8
