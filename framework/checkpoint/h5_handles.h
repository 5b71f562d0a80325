// A thin layer over HDF5's C API for h5_*.cpp: handles that close themselves, one lock, results that cannot be ignored.
#pragma once

#include <hdf5.h>

#include <mutex>
#include <utility>

#include "kernels/runtime/dtype.h"
#include "kernels/runtime/error.h"

namespace fourmi::h5 {

/// Held during any use of the library, which may be built without thread safety. Silences its printed error stack.
/// The library does not look whether it gets memory: what a file of `num_datasets` takes is asked for first, and
/// refused as std::bad_alloc.
class Session {
 public:
  explicit Session(std::size_t num_datasets);

 private:
  std::unique_lock<std::mutex> lock_;
};

class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle(hid_t id, Close closer) : id_(id), close_(closer) {}
  Handle(Handle&& o) noexcept : id_(std::exchange(o.id_, -1)), close_(o.close_) {}
  Handle& operator=(Handle&&) = delete;
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  explicit operator bool() const { return id_ >= 0; }
  operator hid_t() const { return id_; }
  /// Closes now; false if that failed.
  bool close() { return close_(std::exchange(id_, -1)) >= 0; }

 private:
  hid_t id_;
  Close close_;
};

/// Our element types in a file: little endian; bf16 is a 16-bit float with 8 exponent bits, which h5py reads.
Handle file_type(DType dtype);
/// Access without file locks, which some cluster file systems answer with a hang.
Handle access_list();

}  // namespace fourmi::h5
