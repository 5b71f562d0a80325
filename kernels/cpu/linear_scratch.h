// Scratch of a thread that grows and is kept: a steady step allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace fourmi::linear {

class Scratch {
 public:
  /// At least `count` elements, aligned to 64 bytes, contents undefined. Valid until the next call.
  template <class T>
  T* get(std::int64_t count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    if (bytes > capacity_) {
      memory_.reset();
      capacity_ = 0;
      memory_.reset(static_cast<std::byte*>(::operator new(bytes + bytes / 2, alignment)));
      capacity_ = bytes + bytes / 2;
    }
    return reinterpret_cast<T*>(memory_.get());
  }

 private:
  static constexpr std::align_val_t alignment{64};
  struct Free {
    void operator()(std::byte* p) const { ::operator delete(p, alignment); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t capacity_ = 0;
};

struct ThreadScratch {
  Scratch a, b, chains;
};

inline ThreadScratch& thread_scratch() {
  static thread_local ThreadScratch scratch;
  return scratch;
}

}  // namespace fourmi::linear
