// Memory for tests of operations: poisoned with NaN bytes until somebody writes it, with guards behind the end that
// show whether an operation wrote too far.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <vector>

#include "kernels/numerics/fixed128.h"
#include "kernels/numerics/random.h"
#include "kernels/numerics/rounding.h"
#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"
#include "kernels/runtime/visit.h"

namespace fourmi::testing {

class Buffer {
 public:
  Buffer(Shape shape, DType dtype) : shape_(shape), dtype_(dtype) {
    size_ = static_cast<std::size_t>(shape.num_elements() * size_of(dtype));
    bytes_.assign(size_ + guard, std::byte{0xff});
  }
  Buffer(Shape shape, DType dtype, const std::vector<double>& values) : Buffer(shape, dtype) {
    for (std::size_t i = 0; i < values.size(); ++i) set(static_cast<std::int64_t>(i), values[i]);
  }
  /// Normal numbers times stddev.
  static Buffer random(Shape shape, DType dtype, std::uint64_t seed, double stddev = 1.0) {
    Buffer buffer(shape, dtype);
    fill_normal(buffer.tensor(), random_key(seed, "test", "buffer"), 0, stddev);
    return buffer;
  }
  ~Buffer() {
    for (std::size_t i = size_; i < bytes_.size(); ++i)
      if (bytes_[i] != std::byte{0xff}) ADD_FAILURE() << "written behind the end of " << to_string(shape_);
  }
  Buffer(const Buffer&) = default;
  Buffer& operator=(const Buffer&) = default;

  Tensor tensor() { return Tensor(bytes_.data(), dtype_, shape_); }
  operator Tensor() { return tensor(); }
  DType dtype() const { return dtype_; }
  std::int64_t size() const { return shape_.num_elements(); }

  double at(std::int64_t i) const {
    switch (dtype_) {
      case DType::f64:
        return get<double>(i);
      case DType::f32:
        return static_cast<double>(get<float>(i));
      case DType::bf16:
        return static_cast<double>(get<bfloat16>(i));
      case DType::i32:
        return get<std::int32_t>(i);
      case DType::i64:
        return static_cast<double>(get<std::int64_t>(i));
      case DType::fx128:
        return from_fixed128<double>(get<int128>(i));
      default:
        throw std::logic_error("dtype");
    }
  }
  std::int32_t id(std::int64_t i) const { return get<std::int32_t>(i); }
  void set(std::int64_t i, double value) {
    switch (dtype_) {
      case DType::f64:
        return put(i, value);
      case DType::f32:
        return put(i, static_cast<float>(value));
      case DType::bf16:
        return put(i, round_to<bfloat16>(value));
      case DType::i32:
        return put(i, static_cast<std::int32_t>(value));
      case DType::i64:
        return put(i, static_cast<std::int64_t>(value));
      case DType::fx128:
        return put(i, to_fixed128(value));
      default:
        throw std::logic_error("dtype");
    }
  }
  template <class T>
  T get(std::int64_t i) const {
    T value;
    std::memcpy(&value, bytes_.data() + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
    return value;
  }
  template <class T>
  void put(std::int64_t i, T value) {
    std::memcpy(bytes_.data() + static_cast<std::size_t>(i) * sizeof(T), &value, sizeof(T));
  }

  /// Equal bits.
  bool operator==(const Buffer& o) const { return dtype_ == o.dtype_ && shape_ == o.shape_ && bytes_ == o.bytes_; }

 private:
  static constexpr std::size_t guard = 64;
  Shape shape_;
  DType dtype_;
  std::size_t size_;
  std::vector<std::byte> bytes_;
};

/// Largest |got - expected| / (scale + |expected|).
inline double worst_error(const Buffer& got, const std::function<double(std::int64_t)>& expected, double scale = 1.0) {
  double worst = 0;
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const double want = expected(i), error = std::abs(got.at(i) - want) / (scale + std::abs(want));
    if (!(error <= worst)) worst = error;  // a NaN stays
    if (error != error) return error;
  }
  return worst;
}

/// Relative size of one rounding to the dtype.
inline double unit_of(DType dtype) {
  return dtype == DType::f64 ? 0x1p-53 : dtype == DType::f32 ? 0x1p-24 : 0x1p-8;
}

/// Runs body with one, two and three threads and every instruction set of this machine.
inline void on_every_stream(const std::function<void(const Stream&)>& body) {
  for (int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
      if (!has_isa(isa)) continue;
      SCOPED_TRACE(::testing::Message() << threads << " threads, " << name_of(isa));
      body(Stream(pool, isa));
    }
  }
}

/// The central difference of f along element i of x (f64).
inline double difference(Buffer& x, std::int64_t i, const std::function<double()>& f, double step = 1e-5) {
  const double before = x.at(i);
  x.set(i, before + step);
  const double above = f();
  x.set(i, before - step);
  const double below = f();
  x.set(i, before);
  return (above - below) / (2 * step);
}

}  // namespace fourmi::testing
