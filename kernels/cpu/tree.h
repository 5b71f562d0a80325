// A perfect binary tree over parts as they come (docs/numerics.md "Leaves and trees"): part i joins its left neighbour
// as often as i ends in ones, so that only one sum a level is kept.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/numerics/power_of_two.h"
#include "kernels/numerics/target.h"

namespace fourmi {

/// Parts of up to `width` elements, at most 2^levels of them, in memory of its own.
template <class T, std::int64_t width, int levels>
class Tree {
 public:
  /// Where the next part is to be written.
  FOURMI_INLINE T* next() { return sum_[depth_]; }
  /// Takes the part of n elements that is in next(). An absent one is an exact zero and need not be written.
  FOURMI_INLINE void take(std::int64_t n, bool present = true) {
    present_[depth_] = present;
    for (std::int64_t i = taken_++; i % 2 != 0; i /= 2) join(--depth_, n);
    ++depth_;
  }
  /// The sum of the 2^k parts taken so far; the tree is empty again.
  FOURMI_INLINE T* root(std::int64_t n) {
    if (!present_[0]) std::fill_n(sum_[0], n, T{0});
    depth_ = 0, taken_ = 0;
    return sum_[0];
  }

 private:
  /// Level d takes in level d + 1. (x + 0 is not skipped: it turns -0 into +0.)
  FOURMI_INLINE void join(int d, std::int64_t n) {
    T *left = sum_[d], *right = sum_[d + 1];
    if (present_[d] && present_[d + 1])
      for (std::int64_t i = 0; i < n; ++i) left[i] += right[i];
    else if (present_[d])
      for (std::int64_t i = 0; i < n; ++i) left[i] += T{0};
    else if (present_[d + 1])
      for (std::int64_t i = 0; i < n; ++i) left[i] = T{0} + right[i];
    present_[d] = present_[d] || present_[d + 1];
  }

  alignas(64) T sum_[levels + 1][width];
  bool present_[levels + 1] = {};
  int depth_ = 0;
  std::int64_t taken_ = 0;
};

}  // namespace fourmi
