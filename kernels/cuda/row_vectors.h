// Vectors of rows, numbered row after row and dealt out to warps: each takes some times 32 that follow one another, so
// that all its lanes have work whatever a row's length, and several loads of a lane are under way. For .cu files.
#pragma once

#include "kernels/cuda/division.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/launch.h"

namespace fourmi::cuda {

struct RowVectors {
  static constexpr int threads = 256;
  /// On a multiprocessor at the same time, for __launch_bounds__: 64 registers a thread. A compiler that is not told
  /// how many it may use saves them, and loads the second vector when it is done with the first.
  static constexpr int blocks = 4;
  std::uint32_t total, of_row;
  Division by_row;

  RowVectors(std::int64_t rows, std::int64_t vectors)
      : total(checked(rows, vectors)), of_row(static_cast<std::uint32_t>(vectors)), by_row(of_row) {}
  /// Where each lane takes `each` vectors.
  unsigned num_blocks(int each) const { return static_cast<unsigned>(ceil_div(total, std::int64_t{threads} * each)); }

  /// The first vector of this lane; the others are 32 further on each. They may lie behind the last one, and are taken
  /// to be that one (here()): loads without a condition are under way together, where the compiler moves conditional
  /// ones to where their values are used.
  template <int each>
  __device__ static std::uint32_t first() {
    const std::uint32_t warp = blockIdx.x * (threads / warp_size) + threadIdx.x / warp_size;
    return warp * (warp_size * each) + threadIdx.x % warp_size;
  }
  __device__ std::uint32_t here(std::uint32_t i) const { return min(i, total - 1); }

 private:
  static std::uint32_t checked(std::int64_t rows, std::int64_t vectors) {
    constexpr std::int64_t most = std::int64_t{1} << 31;
    FOURMI_CHECK(rows > 0 && 0 < vectors && vectors < most && rows <= (most - 1) / vectors,
                 "{} rows of {} vectors are too many for one call", rows, vectors);
    return static_cast<std::uint32_t>(rows * vectors);
  }
};

}  // namespace fourmi::cuda
