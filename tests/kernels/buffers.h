// Owning tensors for tests: filled with NaN bytes until written, set from and read as doubles, with guards behind the
// end that show whether an operation wrote too far.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "kernels/numerics/fixed128.h"
#include "kernels/numerics/rounding.h"
#include "kernels/runtime/stream.h"
#include "kernels/runtime/tensor.h"
#include "kernels/runtime/visit.h"

namespace fourmi::test {

/// A tensor with its storage. Fresh storage is poison: every byte 0xff, a NaN in every float dtype.
class Buffer {
 public:
  Buffer(DType dtype, Shape shape) : storage_(static_cast<std::size_t>(bytes_of(dtype, shape)) + 2 * guard, 0xff) {
    const auto address = reinterpret_cast<std::uintptr_t>(storage_.data());
    tensor_ = Tensor(storage_.data() + (guard - address % guard) % guard, dtype, shape);
  }
  Buffer(DType dtype, Shape shape, const std::vector<double>& values) : Buffer(dtype, shape) {
    fill([&](std::int64_t i) { return values.at(static_cast<std::size_t>(i)); });
  }
  Buffer(const Buffer& other) : Buffer(other.tensor_.dtype, other.tensor_.shape) {
    if (size() > 0) std::memcpy(tensor_.data, other.tensor_.data, static_cast<std::size_t>(other.tensor_.bytes()));
  }
  Buffer(Buffer&&) = default;
  Buffer& operator=(Buffer other) {
    std::swap(storage_, other.storage_);
    std::swap(tensor_, other.tensor_);
    return *this;
  }
  ~Buffer() {
    if (storage_.empty()) return;  // moved from
    const auto* end = static_cast<const unsigned char*>(tensor_.data) + tensor_.bytes();
    for (const auto* p = end; p < storage_.data() + storage_.size(); ++p)
      if (*p != 0xff) {
        ADD_FAILURE() << "written behind the end of " << to_string(tensor_.shape);
        return;
      }
  }

  operator const Tensor&() const { return tensor_; }
  const Tensor* operator->() const { return &tensor_; }
  const Tensor& tensor() const { return tensor_; }
  std::int64_t size() const { return tensor_.num_elements(); }

  double get(std::int64_t i) const {
    switch (tensor_.dtype) {
      case DType::f64:
        return tensor_.as<double>()[i];
      case DType::f32:
        return tensor_.as<float>()[i];
      case DType::bf16:
        return static_cast<double>(tensor_.as<bfloat16>()[i]);
      case DType::i32:
        return tensor_.as<std::int32_t>()[i];
      case DType::i64:
        return static_cast<double>(tensor_.as<std::int64_t>()[i]);
      case DType::fx128:
        return from_fixed128<double>(tensor_.as<int128>()[i]);
      default:
        ADD_FAILURE() << "get of " << name_of(tensor_.dtype);
        return 0;
    }
  }
  /// The element itself; of an i32 tensor, `id` for short.
  template <class T>
  T& at(std::int64_t i) const {
    return tensor_.as<T>()[i];
  }
  std::int32_t id(std::int64_t i) const { return at<std::int32_t>(i); }
  void set(std::int64_t i, double x) const {
    switch (tensor_.dtype) {
      case DType::i32:
        at<std::int32_t>(i) = static_cast<std::int32_t>(x);
        break;
      case DType::i64:
        at<std::int64_t>(i) = static_cast<std::int64_t>(x);
        break;
      case DType::fx128:
        at<int128>(i) = to_fixed128(x);
        break;
      default:
        visit_float(tensor_.dtype, "set", [&]<class X>(std::type_identity<X>) { at<X>(i) = round_to<X>(x); });
    }
  }
  void fill(const std::function<double(std::int64_t)>& f) const {
    for (std::int64_t i = 0; i < size(); ++i) set(i, f(i));
  }
  std::vector<double> values() const {
    std::vector<double> v(static_cast<std::size_t>(size()));
    for (std::int64_t i = 0; i < size(); ++i) v[static_cast<std::size_t>(i)] = get(i);
    return v;
  }

 private:
  static constexpr std::size_t guard = 64;  // bytes; also the alignment
  std::vector<unsigned char> storage_;
  Tensor tensor_;
};

/// Deterministic numbers in about (-1, 1), no two alike in a row.
inline double noise(std::int64_t i, std::uint64_t seed) {
  std::uint64_t x = static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15u + seed * 0xd1342543de82ef95u + 1;
  x ^= x >> 32, x *= 0xbf58476d1ce4e5b9u, x ^= x >> 29, x *= 0x94d049bb133111ebu, x ^= x >> 32;
  return static_cast<double>(x >> 11) * 0x1p-52 - 1.0;
}
inline Buffer noisy(DType dtype, Shape shape, std::uint64_t seed, double scale = 1.0) {
  Buffer b(dtype, shape);
  b.fill([&](std::int64_t i) { return scale * noise(i, seed); });
  return b;
}

inline bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.bytes() == b.bytes() &&
         (a.bytes() == 0 || std::memcmp(a.data, b.data, static_cast<std::size_t>(a.bytes())) == 0);
}
/// Equal dtype, shape and bits.
inline bool operator==(const Buffer& a, const Buffer& b) {
  return a->dtype == b->dtype && a->shape == b->shape && same_bytes(a, b);
}
inline bool is_poison(const Tensor& t, std::int64_t element) {
  const auto* p = static_cast<const unsigned char*>(t.data) + element * size_of(t.dtype);
  for (std::int64_t i = 0; i < size_of(t.dtype); ++i)
    if (p[i] != 0xff) return false;
  return true;
}

/// Relative rounding error of one stored result: the tolerance against formulas in double, a few of these.
inline double unit_of(DType dtype) {
  return dtype == DType::f64 ? 0x1p-53 : dtype == DType::f32 ? 0x1p-24 : 0x1p-8;
}

inline std::vector<Isa> machine_isas() {
  std::vector<Isa> isas;
  for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
    if (has_isa(isa)) isas.push_back(isa);
  return isas;
}
inline const std::vector<DType>& float_dtypes() {
  static const std::vector<DType> all = {DType::f64, DType::f32, DType::bf16};
  return all;
}

/// Runs body with one, two and three threads and every instruction set of this machine.
inline void on_every_stream(const std::function<void(const Stream&)>& body) {
  for (int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    for (Isa isa : machine_isas()) {
      SCOPED_TRACE(::testing::Message() << threads << " threads, " << name_of(isa));
      body(Stream(pool, isa));
    }
  }
}

/// Largest |got - expected| / (1 + |expected|); NaN if there is one.
inline double worst_error(const Buffer& got, const std::function<double(std::int64_t)>& expected) {
  double worst = 0;
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const double want = expected(i), error = std::abs(got.get(i) - want) / (1 + std::abs(want));
    if (error != error) return error;
    worst = std::max(worst, error);
  }
  return worst;
}

/// The central difference of f along element i of x (f64).
inline double difference(const Buffer& x, std::int64_t i, const std::function<double()>& f, double step = 1e-5) {
  const double before = x.get(i);
  x.set(i, before + step);
  const double above = f();
  x.set(i, before - step);
  const double below = f();
  x.set(i, before);
  return (above - below) / (2 * step);
}

}  // namespace fourmi::test
