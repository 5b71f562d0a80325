// A tensor is a small, contiguous, non-owning view. Memory belongs to an Arena.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/runtime/dtype.h"
#include "kernels/runtime/error.h"

namespace fourmi {

enum class Device : std::uint8_t { cpu, cuda };

/// Up to five dims, row-major.
struct Shape {
  std::array<std::int64_t, 5> dims{};
  int rank = 0;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> list) {
    FOURMI_CHECK(list.size() <= 5, "a shape of {} dims", list.size());
    for (std::int64_t d : list) dims[static_cast<std::size_t>(rank++)] = d;
  }
  std::int64_t operator[](int i) const { return dims[static_cast<std::size_t>(i)]; }
  std::int64_t num_elements() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[static_cast<std::size_t>(i)];
    return n;
  }
  bool operator==(const Shape& o) const { return rank == o.rank && dims == o.dims; }
};

std::string to_string(const Shape& shape);

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::f32;
  Device device = Device::cpu;
  Shape shape;

  Tensor() = default;
  Tensor(void* data_, DType dtype_, Shape shape_, Device device_ = Device::cpu)
      : data(data_), dtype(dtype_), device(device_), shape(shape_) {}

  /// An absent tensor (default constructed): an optional argument that was not given.
  explicit operator bool() const { return shape.rank > 0; }
  std::int64_t dim(int i) const { return shape[i]; }
  std::int64_t num_elements() const { return shape.num_elements(); }
  std::int64_t bytes() const { return num_elements() * size_of(dtype); }

  /// Typed pointer; a wrong type is a bug and says so.
  template <class T>
  T* as() const {
    FOURMI_CHECK(dtype == dtype_of<T>, "tensor of {} read as {}", name_of(dtype), name_of(dtype_of<T>));
    return static_cast<T*>(data);
  }
  /// Rows [begin, end) of dim 0.
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  /// The same elements under another shape.
  Tensor view(Shape other) const;
};

}  // namespace fourmi
