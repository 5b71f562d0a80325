// The HDF5 side of a rank's file. HDF5 1.10 does not report a full disk reliably, so the library never touches the disk
// when a checkpoint is saved: it lays out the file (ordinary driver, contiguous datasets, space allocated early, never
// filled) in an anonymous file in memory, in which the data are holes; its own writer then puts metadata and data on
// the disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "framework/checkpoint/rectangle.h"
#include "kernels/runtime/tensor.h"

namespace fourmi {

/// One dataset: a part of a tensor.
struct H5Dataset {
  std::string name, alias;  ///< paths; alias (may be empty) is a second hard link to it
  DType dtype = DType::f32;
  Shape global;
  Rectangle part;  ///< at least one element

  Shape shape() const { return shape_of(part, global); }
  std::int64_t bytes() const { return shape().num_elements() * size_of(dtype); }
};

/// The laid-out file: metadata, and holes where the data go.
class H5Skeleton {
 public:
  explicit H5Skeleton(std::span<const H5Dataset> datasets);
  ~H5Skeleton();
  H5Skeleton(const H5Skeleton&) = delete;
  H5Skeleton& operator=(const H5Skeleton&) = delete;

  std::int64_t size() const { return size_; }
  /// Where each dataset's bytes begin, in the order given.
  const std::vector<std::int64_t>& offsets() const { return offsets_; }
  void read(std::span<std::byte> bytes, std::int64_t offset) const;

 private:
  int file_ = -1;
  std::int64_t size_ = 0;
  std::vector<std::int64_t> offsets_;
};

/// Proves that HDF5 sees in the file exactly these datasets, at these offsets, and uses only what we write: contiguous
/// storage inside the file, no filters, no external or soft links. Throws DamageError naming file and dataset.
/// To be called on a file whose SHA-256 is proven: HDF5's parser is not safe on damaged files.
void check_h5_structure(const std::filesystem::path& path, std::span<const H5Dataset> datasets,
                        std::span<const std::int64_t> offsets);

}  // namespace fourmi
