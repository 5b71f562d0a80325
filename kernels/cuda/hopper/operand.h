// How products of warpgroups are told where an operand lies in shared memory (PTX ISA, "matrix descriptor").
#pragma once

#include <cstdint>

#include "kernels/cuda/hopper/tensor_map.h"

namespace fourmi::cuda::hopper {

using Operand = std::uint64_t;

/// What of an operand is contiguous: what is summed (operand_of_rows()), or its lines (operand_of_columns()).
enum class Along : std::uint8_t { sum, lines };

/// Rows of 128 bytes one after another, as a box with span_128 is laid, from a multiple of 1024 bytes on; what is
/// summed runs along a row. `address` may be a multiple of 32 bytes into the first row, to begin there.
constexpr Operand operand_of_rows(std::uint32_t address) {
  constexpr std::uint64_t eight_rows = 1024, span_128 = 1;
  return std::uint64_t{(address & 0x3ffff) >> 4} | std::uint64_t{1} << 16 | eight_rows >> 4 << 32 | span_128 << 62;
}
/// Elements of 16 bits of which lines, not the sum, are contiguous ("MN-major"; the product is told so besides): slabs
/// of 64 neighbouring lines one after another, each `slab` bytes, a multiple of 1024. In a slab each element of
/// the sum has 128 bytes, the 64 lines' elements, as a box {64 lines, elements of the sum} with span_128 is laid.
/// `address` is a multiple of 1024, and so the base offset 0.
///
/// Why these fields. The ISA measures in pieces of 16 bytes, here 8 lines (T = 8). Its table of offsets says of such
/// operands with a swizzle of 128 bytes: the leading offset leads from the first 128 / 16 = 8 rows of pieces to the
/// next 8, thus by 8 * 8 = 64 lines; the stride offset from the first 8 columns to the next 8 columns, thus by 8
/// elements of the sum. Its table of canonical layouts says the same, ((T, 8, m), (8, k)) : ((1, T, leading), (8 T,
/// stride)):
///   line l = l0 + 8 l1 + 64 m,   element of the sum s = s0 + 8 k
///   lies at l0 * 1 + l1 * 8 + m * leading + s0 * 64 + k * stride, in elements, before the swizzle.
/// An element of the sum is 64 elements behind its neighbour, 128 bytes, so 8 of them are an atom of 1024 bytes in
/// which the swizzle begins anew. Atoms of a slab follow each other: stride = 1024 bytes. leading = slab. A
/// product of 16 reads two atoms of each slab, so the next 16 begin 2048 bytes further on.
constexpr Operand operand_of_columns(std::uint32_t address, std::uint32_t slab) {
  constexpr std::uint64_t eight_columns = 1024, span_128 = 1;
  return std::uint64_t{(address & 0x3ffff) >> 4} | std::uint64_t{slab >> 4} << 16 | eight_columns >> 4 << 32 |
         span_128 << 62;
}
/// The same from so many bytes further on (below 2^18 altogether).
constexpr Operand advanced(Operand operand, std::uint32_t bytes) {
  return operand + (bytes >> 4);
}

}  // namespace fourmi::cuda::hopper
