#include "kernels/ops/reduce.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>

#include "kernels/numerics/fixed128.h"
#include "kernels/numerics/rounding.h"
#include "kernels/ops/door.h"
#include "kernels/runtime/visit.h"

namespace fourmi {
namespace {

constexpr std::int64_t grain = 1 << 16;  // elements: enough work to pay for waking a thread

/// combine(part(begin, end)) over the ranges of [0, n): only for combinations that have no order.
template <class Part, class Combine>
void combine_parts(const Stream& stream, std::int64_t n, Part part, Combine combine) {
  std::mutex mutex;
  stream.pool().parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
    const auto value = part(begin, end);
    std::lock_guard lock(mutex);
    combine(value);
  });
}

/// The largest magnitude as bits: for IEEE numbers without their sign the order of the bits is that of the values, with
/// infinity above all numbers and NaN above infinity.
template <class T, class Bits>
double largest(const Stream& stream, const T* x, std::int64_t n) {
  Bits most = 0;
  combine_parts(
      stream, n,
      [&](std::int64_t begin, std::int64_t end) {
        Bits m = 0;
        for (std::int64_t i = begin; i < end; ++i) {
          const Bits b = std::bit_cast<Bits>(x[i]) & (~Bits{0} >> 1);
          m = b > m ? b : m;
        }
        return m;
      },
      [&](Bits m) { most = m > most ? m : most; });
  const T value = std::bit_cast<T>(most);
  return value != value ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(value);
}

/// Sum of trunc((x 2^-e)^2 2^60). Each term is below 2^60, so it is added in halves of 32 bits, whose sums fit for 2^32
/// terms.
template <class T>
int128 squares(const T* x, std::int64_t n, double first_factor, double second_factor) {
  std::uint64_t low = 0, high = 0, seen = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double y = static_cast<double>(x[i]) * first_factor * second_factor;
    // In this order min() turns NaN too into 2^60, which `seen` tells: what does not fit has no conversion to an
    // integer.
    const auto term = static_cast<std::uint64_t>(static_cast<std::int64_t>(std::min(0x1p60, y * y * 0x1p60)));
    low += term & 0xffffffffu;
    high += term >> 32;
    seen |= term;
  }
  FOURMI_CHECK(seen >> 60 == 0, "sum_squares of an element that is not finite or not below 2^exponent");
  return (static_cast<int128>(high) << 32) + low;
}

template <class To, class From>
void convert_range(const From* src, To* dst, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    if constexpr (std::is_same_v<From, int128>) {
      dst[i] = from_fixed128<To>(src[i]);
    } else {
      dst[i] = round_to<To>(src[i]);
    }
  }
}

template <class To, class From>
void convert_all(const Stream& stream, const Tensor& src, const Tensor& dst) {
  stream.pool().parallel_for(dst.num_elements(), grain, [&](std::int64_t begin, std::int64_t end) {
    convert_range(src.as<From>(), dst.as<To>(), begin, end);
  });
}

template <class T>
void add_all(const Stream& stream, const Tensor& src, const Tensor& dst) {
  const T* from = src.as<T>();
  T* to = dst.as<T>();
  stream.pool().parallel_for(dst.num_elements(), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) to[i] += from[i];
  });
}

}  // namespace

double max_abs(const Stream& stream, const Tensor& x) {
  FOURMI_DOOR(max_abs, stream, x);
  const Span span(stream.timeline(), Work::other, "max_abs");
  if (x.dtype == DType::f64) return largest<double, std::uint64_t>(stream, x.as<double>(), x.num_elements());
  return largest<float, std::uint32_t>(stream, x.as<float>(), x.num_elements());
}

int128 sum_squares(const Stream& stream, const Tensor& x, int exponent) {
  FOURMI_DOOR(sum_squares, stream, x, exponent);
  const Span span(stream.timeline(), Work::other, "sum_squares");
  // 2^-e alone may be no double; two factors always are, and a term that underflows on the way counts zero anyway.
  const double first_factor = std::ldexp(1.0, -exponent / 2),
               second_factor = std::ldexp(1.0, -exponent - -exponent / 2);
  int128 total = 0;
  visit_accumulator(x.dtype, "sum_squares", [&]<class T>(std::type_identity<T>) {
    const T* data = x.as<T>();
    combine_parts(
        stream, x.num_elements(),
        [&](std::int64_t begin, std::int64_t end) {
          int128 sum = 0;
          for (std::int64_t i = begin; i < end; i += std::int64_t{1} << 30)
            sum += squares(data + i, std::min(end - i, std::int64_t{1} << 30), first_factor, second_factor);
          return sum;
        },
        [&](int128 sum) { total += sum; });
  });
  return total;
}

double norm_from(int128 total, int exponent) {
  return std::ldexp(std::sqrt(static_cast<double>(total)), exponent - 30);
}

int128 sum_fixed(const Stream& stream, const Tensor& x) {
  FOURMI_DOOR(sum_fixed, stream, x);
  const Span span(stream.timeline(), Work::other, "sum_fixed");
  int128 total = 0;
  visit_accumulator(x.dtype, "sum_fixed", [&]<class T>(std::type_identity<T>) {
    const T* data = x.as<T>();
    combine_parts(
        stream, x.num_elements(),
        [&](std::int64_t begin, std::int64_t end) {
          int128 sum = 0;
          for (std::int64_t i = begin; i < end; ++i) {
            const double value = static_cast<double>(data[i]);
            if (!fits_fixed128(value)) [[unlikely]]
              throw Error(ExitStatus::guard, "exact sum",
                          fmt::format("{} as element {}, a number below 2^40", value, i),
                          "The loss has diverged: go back to an earlier checkpoint with a lower learning rate");
            sum += to_fixed128(value);
          }
          return sum;
        },
        [&](int128 sum) { total += sum; });
  });
  return total;
}

double from_fixed(int128 total) {
  return from_fixed128<double>(total);
}

void convert(const Stream& stream, const Tensor& src, const Tensor& dst) {
  FOURMI_DOOR(convert, stream, src, dst);
  const Span span(stream.timeline(), Work::other, "convert");
  FOURMI_CHECK(src.num_elements() == dst.num_elements(), "{} converted into {}", to_string(src.shape),
               to_string(dst.shape));
  visit_float(dst.dtype, "convert", [&]<class To>(std::type_identity<To>) {
    if (src.dtype != DType::fx128)
      return visit_float(src.dtype, "convert",
                         [&]<class From>(std::type_identity<From>) { convert_all<To, From>(stream, src, dst); });
    if constexpr (std::is_same_v<To, bfloat16>) {
      FOURMI_CHECK(false, "fx128 converted to bf16");
    } else {
      convert_all<To, int128>(stream, src, dst);
    }
  });
}

void fill_zero(const Stream& stream, const Tensor& x) {
  FOURMI_DOOR(fill_zero, stream, x);
  const Span span(stream.timeline(), Work::other, "fill_zero");
  auto* data = static_cast<std::byte*>(x.data);
  stream.pool().parallel_for(x.bytes(), 4 * grain, [&](std::int64_t begin, std::int64_t end) {
    std::memset(data + begin, 0, static_cast<std::size_t>(end - begin));
  });
}

void add_in_place(const Stream& stream, const Tensor& src, const Tensor& dst) {
  FOURMI_DOOR(add_in_place, stream, src, dst);
  const Span span(stream.timeline(), Work::other, "add_in_place");
  FOURMI_CHECK(src.dtype == dst.dtype && src.num_elements() == dst.num_elements(), "{} {} added to {} {}",
               name_of(src.dtype), to_string(src.shape), name_of(dst.dtype), to_string(dst.shape));
  switch (dst.dtype) {
    case DType::f64:
      return add_all<double>(stream, src, dst);
    case DType::f32:
      return add_all<float>(stream, src, dst);
    case DType::fx128:
      return add_all<int128>(stream, src, dst);
    default:
      FOURMI_CHECK(false, "add_in_place of {}", name_of(dst.dtype));
  }
}

}  // namespace fourmi
