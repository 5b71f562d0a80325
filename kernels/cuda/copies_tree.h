// A token's sum over what ranks have of it: the perfect binary tree over all ranks, of which few are there. Copies come
// in ascending order; where two neighbours meet in the tree is the highest bit in which their ranks differ, and what is
// waiting below that place is complete: waiting subtrees lie in shared memory, their places in a register. Bits are the
// CPU's (kernels/cpu/sum_copies.cpp). For .cu files.
#pragma once

#include "kernels/cuda/lanes.h"

namespace fourmi::cuda {

/// n: of A, what a thread has of a row.
template <class A, int n>
class CopiesTree {
 public:
  static constexpr int level_bits = 5;  // of a place on the stack
  static constexpr int most_levels = 12;

  /// `waiting`: this thread's in shared memory, `stride` apart, one for each level of the tree.
  __device__ CopiesTree(Vector<A, n>* waiting, int stride) : waiting_(waiting), stride_(stride) {
#pragma unroll
    for (int i = 0; i < n; ++i) sum_[i] = 0;
  }
  __device__ void add(int rank, const A (&copy)[n]) {
    if (before_ >= 0) {
      const auto place = static_cast<unsigned>(31 - __clz(rank ^ before_));
      while (depth_ > 0 && (places_ & ((1u << level_bits) - 1)) < place) join();
      Vector<A, n> left;
#pragma unroll
      for (int i = 0; i < n; ++i) left.value[i] = sum_[i];
      waiting_[depth_++ * stride_] = left;
      places_ = places_ << level_bits | place;
    }
    before_ = rank;
#pragma unroll
    for (int i = 0; i < n; ++i) sum_[i] = A{0} + copy[i];
  }
  using Sum = A[n];
  __device__ Sum& finish() {
    while (depth_ > 0) join();
    return sum_;
  }

 private:
  __device__ void join() {
    const Vector<A, n> left = waiting_[--depth_ * stride_];
#pragma unroll
    for (int i = 0; i < n; ++i) sum_[i] = left.value[i] + sum_[i];
    places_ >>= level_bits;
  }

  Vector<A, n>* waiting_;
  int stride_, before_ = -1, depth_ = 0;
  std::uint64_t places_ = 0;  // of what waits, the last in the lowest bits
  A sum_[n];
};

}  // namespace fourmi::cuda
