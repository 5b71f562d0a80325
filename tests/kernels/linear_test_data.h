// Buffers for the tests of linear maps: seeded values of every dtype, at chosen alignment, with poison around them.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/ops/linear.h"

namespace fourmi::test {

using Random = std::mt19937_64;

inline std::int64_t pick(Random& random, std::int64_t low, std::int64_t high) {
  return low + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(high - low + 1));
}

/// Owns a tensor that starts `skew` elements behind an allocation's begin; all bytes are 0xff (NaN) until filled.
class TypedBuffer {
 public:
  TypedBuffer() = default;
  TypedBuffer(Shape shape, DType dtype, std::int64_t skew = 0)
      : bytes_(static_cast<std::size_t>((shape.num_elements() + skew + 8) * size_of(dtype)), std::byte{0xff}),
        shape_(shape),
        dtype_(dtype),
        skew_(skew) {}

  Tensor tensor() { return {bytes_.data() + skew_ * size_of(dtype_), dtype_, shape_}; }
  Tensor view(Shape shape) { return tensor().view(shape); }
  std::int64_t size() const { return shape_.num_elements(); }
  bool operator==(const TypedBuffer& o) const { return bytes_ == o.bytes_; }  // poison around it included
  template <class T>
  T* data() {
    return tensor().as<T>();
  }

  void set(std::int64_t i, double value) {
    if (dtype_ == DType::f64) data<double>()[i] = value;
    if (dtype_ == DType::f32) data<float>()[i] = static_cast<float>(value);
    if (dtype_ == DType::bf16) data<bfloat16>()[i] = bfloat16(static_cast<float>(value));
    if (dtype_ == DType::fx128) data<int128>()[i] = static_cast<int128>(std::ldexp(value, 60));
  }
  double get(std::int64_t i) {
    if (dtype_ == DType::f64) return data<double>()[i];
    if (dtype_ == DType::f32) return data<float>()[i];
    return static_cast<double>(data<bfloat16>()[i]);
  }
  /// Normal values times 2^exponent. An exponent near -63 makes products straddle the border of denormals.
  TypedBuffer& fill(Random& random, int exponent = 0) {
    std::normal_distribution<double> normal;
    for (std::int64_t i = 0; i < size(); ++i) set(i, std::ldexp(normal(random), exponent));
    return *this;
  }
  TypedBuffer& fill_zero() {
    for (std::int64_t i = 0; i < size(); ++i) set(i, 0);
    return *this;
  }

 private:
  std::vector<std::byte> bytes_;
  Shape shape_;
  DType dtype_ = DType::f32;
  std::int64_t skew_ = 0;
};

inline std::vector<Isa> isas() {
  std::vector<Isa> all;
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
    if (has_isa(isa)) all.push_back(isa);
  return all;
}

/// Offsets of `experts` experts over at most `rows` rows: empty experts, one token, all tokens, or a mixture.
inline std::vector<std::int32_t> random_offsets(Random& random, std::int64_t experts, std::int64_t rows) {
  std::vector<std::int64_t> count(static_cast<std::size_t>(experts), 0);
  const std::int64_t style = pick(random, 0, 3), used = style == 3 ? rows : pick(random, 0, rows);
  if (style == 0) {
    count[static_cast<std::size_t>(pick(random, 0, experts - 1))] = used;  // all tokens in one
  } else {
    for (std::int64_t r = 0; r < used; ++r) {
      const auto e = style == 1 ? r % experts : std::min(pick(random, 0, experts - 1), pick(random, 0, experts - 1));
      ++count[static_cast<std::size_t>(e)];
    }
  }
  std::vector<std::int32_t> offsets{0};
  for (const std::int64_t c : count) offsets.push_back(offsets.back() + static_cast<std::int32_t>(c));
  return offsets;
}

}  // namespace fourmi::test
