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

/// Of scaled formats: a row of K elements of e4m3_rows (mxe4m3_rows) is its K bytes, then its scales, then zeros up to
/// a multiple of 16 bytes. A panel of e4m3_panels, 128 rows of a matrix [N, K] (or the rows that are left), is the
/// bytes of its rows, then K / 128 scales (rounded up), then zeros up to a multiple of 16 bytes. Panels begin anew with
/// each matrix of a tensor [E, N, K].
struct ScaledFormat {
  static constexpr std::int64_t block = 128, mx_block = 32, row_alignment = 16;
  static constexpr std::int64_t num_blocks(std::int64_t n, std::int64_t of = block) { return (n + of - 1) / of; }
  /// Of a row with its scales, for a dtype of rows.
  static constexpr std::int64_t row_bytes(DType dtype, std::int64_t K) {
    const std::int64_t scales = dtype == DType::mxe4m3_rows ? num_blocks(K, mx_block) : 4 * num_blocks(K);
    return (K + scales + row_alignment - 1) / row_alignment * row_alignment;
  }
  /// Of a panel, with the zeros: whole panels begin at multiples of 16 bytes.
  static constexpr std::int64_t panel_scale_bytes(std::int64_t K) {
    return (4 * num_blocks(K) + row_alignment - 1) / row_alignment * row_alignment;
  }
  /// Of the first `rows` rows of a matrix of e4m3_panels.
  static constexpr std::int64_t panel_bytes(std::int64_t rows, std::int64_t K) {
    return rows * K + num_blocks(rows) * panel_scale_bytes(K);
  }
};

/// What so many elements take in memory, with their scales.
std::int64_t bytes_of(DType dtype, const Shape& shape);

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
  std::int64_t bytes() const { return bytes_of(dtype, shape); }

  /// Typed pointer for the host; a wrong type is a bug and says so, and so is memory of a device.
  template <class T>
  T* as() const {
    FOURMI_CHECK(device == Device::cpu, "a tensor of the device {} read by the host", to_string(shape));
    FOURMI_CHECK(dtype == dtype_of<T>, "tensor of {} read as {}", name_of(dtype), name_of(dtype_of<T>));
    return static_cast<T*>(data);
  }
  /// Rows [begin, end) of dim 0. Of a matrix of e4m3_panels `begin` is a multiple of 128, and so is `end` unless it is
  /// the last.
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  /// The same elements under another shape; of a dtype with scales with the same last dim (two for e4m3_panels).
  Tensor view(Shape other) const;
};

}  // namespace fourmi
