// Bytes of four words change places: rows become columns. For .cu files.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace fourmi::cuda {

/// columns[i] has byte i of each of four words.
__device__ inline void turn_bytes(const std::uint32_t* rows, std::uint32_t (&columns)[4]) {
  const std::uint32_t low_01 = __byte_perm(rows[0], rows[1], 0x5140), low_23 = __byte_perm(rows[2], rows[3], 0x5140);
  const std::uint32_t high_01 = __byte_perm(rows[0], rows[1], 0x7362), high_23 = __byte_perm(rows[2], rows[3], 0x7362);
  columns[0] = __byte_perm(low_01, low_23, 0x5410);
  columns[1] = __byte_perm(low_01, low_23, 0x7632);
  columns[2] = __byte_perm(high_01, high_23, 0x5410);
  columns[3] = __byte_perm(high_01, high_23, 0x7632);
}

}  // namespace fourmi::cuda
