#include "kernels/ops/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/cpu/rotary_pairs.h"
#include "kernels/cpu/run_rows.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

/// The pair index at which a rotary embedding turns `rotations` times within the original context (YaRN, section 3.2).
double turning_pair(double dim, double theta, double rotations, const Yarn& yarn) {
  return dim * log(yarn.original_max_position / (rotations * 2.0 * std::numbers::pi)) / (2.0 * log(theta));
}

template <class X, bool inverse>
struct Apply {
  using T = Accumulator<X>;
  Angles<T> angles;
  RotaryLayout layout;
  X* x;
  std::int64_t num_heads, width;

  FOURMI_INLINE void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t r = begin; r < end; ++r) {
      const T* angle = angles.row(r);
      X* head = x + r * num_heads * width;
      for (std::int64_t h = 0; h < num_heads; ++h, head += width)
        rotate_head<inverse>(layout, angle, angles.half, head, head);
    }
  }
};

}  // namespace

double yarn_mscale(double factor, double m) {
  return factor > 1 ? 0.1 * m * log(factor) + 1.0 : 1.0;
}

std::vector<double> rotary_frequencies(std::int64_t dim, double theta, const Yarn* yarn) {
  FOURMI_CHECK(dim >= 2 && dim % 2 == 0 && theta > 0, "rotary embedding of {} columns, theta {}", dim, theta);
  const double width = static_cast<double>(dim), log_theta = log(theta);
  std::vector<double> frequencies(static_cast<std::size_t>(dim / 2));
  for (std::size_t j = 0; j < frequencies.size(); ++j)
    frequencies[j] = exp(-(2.0 * static_cast<double>(j) / width) * log_theta);
  if (yarn == nullptr) return frequencies;
  const double first = turning_pair(width, theta, yarn->beta_fast, *yarn),
               last = turning_pair(width, theta, yarn->beta_slow, *yarn);
  const double low = std::clamp(yarn->truncate ? std::floor(first) : first, 0.0, width - 1);
  double high = std::clamp(yarn->truncate ? std::ceil(last) : last, 0.0, width - 1);
  if (high == low) high += 0.001;
  for (std::size_t j = 0; j < frequencies.size(); ++j) {
    const double ramp = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);
    frequencies[j] = frequencies[j] / yarn->factor * ramp + frequencies[j] * (1.0 - ramp);
  }
  return frequencies;
}

std::vector<double> stretched(std::vector<double> frequencies, const Llama3Scaling& s) {
  const double longest = s.original_max_position / s.low_freq_factor,
               shortest = s.original_max_position / s.high_freq_factor;
  for (double& f : frequencies) {
    const double wavelength = 2.0 * std::numbers::pi / f;
    if (wavelength < shortest) continue;
    if (wavelength > longest) {
      f = f / s.factor;
      continue;
    }
    const double smooth =
        (s.original_max_position / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
    f = (1.0 - smooth) * f / s.factor + smooth * f;
  }
  return frequencies;
}

void rotary_table(const std::vector<double>& frequencies, double scale, const Tensor& table_PH2) {
  const auto half = static_cast<std::int64_t>(frequencies.size());
  FOURMI_CHECK(table_PH2.dim(1) == half && table_PH2.dim(2) == 2, "{} frequencies, table {}", half,
               to_string(table_PH2.shape));
  visit_accumulator(table_PH2.dtype, "rotary_table", [&]<class T>(std::type_identity<T>) {
    T* out = table_PH2.as<T>();
    for (std::int64_t p = 0; p < table_PH2.dim(0); ++p)
      for (const double frequency : frequencies) {
        const SinCos angle = sincos(static_cast<double>(p) * frequency);
        *out++ = static_cast<T>(angle.cos * scale);
        *out++ = static_cast<T>(angle.sin * scale);
      }
  });
}

void rotary_apply(const Stream& stream, const Rotary& rotary, const Tensor& table_PH2, const Tensor& positions_M,
                  const Tensor& x_MHW) {
  FOURMI_DOOR(rotary_apply, stream, rotary, table_PH2, positions_M, x_MHW);
  const Span span(stream.timeline(), Work::attention, "rotary_apply");
  const std::int64_t rows = x_MHW.dim(0), heads = x_MHW.dim(1), width = x_MHW.dim(2);
  FOURMI_CHECK(0 <= rotary.column && rotary.column + 2 * table_PH2.dim(1) <= width, "x {}, {} columns from {}",
               to_string(x_MHW.shape), 2 * table_PH2.dim(1), rotary.column);
  visit_float(x_MHW.dtype, "rotary", [&]<class X>(std::type_identity<X>) {
    const auto angles = angles_of<Accumulator<X>>(table_PH2, positions_M, rows);
    const auto run = [&]<bool inverse>(std::bool_constant<inverse>) {
      run_rows(short_vectors(stream), rows, grain_of(heads * width),
               Apply<X, inverse>{angles, rotary.layout, x_MHW.as<X>() + rotary.column, heads, width});
    };
    rotary.inverse ? run(std::true_type{}) : run(std::false_type{});
  });
}

}  // namespace fourmi
