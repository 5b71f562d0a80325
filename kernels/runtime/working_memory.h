// What bodies of a pool's ranges compute in: packed panels, tiles, a row. A thread keeps it from range to range. What
// one thread of a pool needed the others get before the next job (ThreadPool::parallel_for), so it does not matter
// which of them met an operation first: a steady step takes nothing from the heap.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "kernels/runtime/error.h"

namespace fourmi {

/// Who needs it: what is held at the same time has another name.
enum class WorkingUse : std::uint8_t {
  attention,
  tiles,
  tile_data,
  product_left,
  product_right,
  product_sums,
  row,
  experts
};

class WorkingMemory {
 public:
  /// Of the calling thread.
  static WorkingMemory& mine();
  /// From now on `memory` is the calling thread's: a worker works in what its pool keeps for it.
  static void lend(WorkingMemory& memory);

  /// At least `count` values, aligned to 64 bytes, contents undefined. Valid until the next call for this use, and not
  /// beyond the range of a body: between jobs it may move.
  template <class T>
  T* get(WorkingUse use, std::int64_t count) {
    Buffer& b = buffers_[static_cast<std::size_t>(use)];
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    if (bytes > b.capacity) grow(b, bytes + bytes / 2);
    return reinterpret_cast<T*>(b.memory.get());
  }

  std::size_t total_bytes() const { return total_; }
  /// As much of each use as `other` has.
  void reserve_as(const WorkingMemory& other);

 private:
  static constexpr std::align_val_t alignment{64};
  struct Free {
    void operator()(std::byte* p) const { ::operator delete(p, alignment); }
  };
  struct Buffer {
    std::unique_ptr<std::byte, Free> memory;
    std::size_t capacity = 0;
  };
  void grow(Buffer& buffer, std::size_t bytes);

  std::array<Buffer, 8> buffers_;
  std::size_t total_ = 0;
};

/// One use's memory cut into parts, each aligned to 64 bytes.
class WorkingParts {
 public:
  WorkingParts(WorkingUse use, std::int64_t num_bytes)
      : next_(WorkingMemory::mine().get<std::byte>(use, num_bytes)), end_(next_ + num_bytes) {}
  /// Bytes that take() uses for n values of T.
  template <class T>
  static std::int64_t bytes(std::int64_t n) {
    return (n * static_cast<std::int64_t>(sizeof(T)) + 63) / 64 * 64;
  }
  template <class T>
  T* take(std::int64_t n) {
    T* taken = reinterpret_cast<T*>(next_);
    next_ += bytes<T>(n);
    FOURMI_CHECK(next_ <= end_, "working memory is too small");
    return taken;
  }

 private:
  std::byte *next_, *end_;
};

}  // namespace fourmi
