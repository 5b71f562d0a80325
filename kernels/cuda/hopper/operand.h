// How products of warpgroups are told where an operand lies in shared memory (PTX ISA, "matrix descriptor").
#pragma once

#include <cstdint>

#include "kernels/cuda/hopper/tensor_map.h"

namespace fourmi::cuda::hopper {

using Operand = std::uint64_t;

/// Rows of 128 bytes one after another, as a box with span_128 is laid, from a multiple of 1024 bytes on; what is
/// summed runs along a row. `address` may be a multiple of 32 bytes into the first row, to begin there.
constexpr Operand operand_of_rows(std::uint32_t address) {
  constexpr std::uint64_t eight_rows = 1024, span_128 = 1;
  return std::uint64_t{(address & 0x3ffff) >> 4} | std::uint64_t{1} << 16 | eight_rows >> 4 << 32 | span_128 << 62;
}
/// The same from so many bytes further on (below 2^18 altogether).
constexpr Operand advanced(Operand operand, std::uint32_t bytes) {
  return operand + (bytes >> 4);
}

}  // namespace fourmi::cuda::hopper
