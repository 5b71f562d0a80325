// What a tensor map says of a tensor, as a plain value: where it lies, and the box of it that one copy between global
// and shared memory moves. What lies outside of the tensor is read as zeros and not written. The rules of the hardware
// are checked here, on the host; encoded_map.h makes what kernels are given.
#pragma once

#include <array>
#include <cstdint>

namespace fourmi::cuda::hopper {

/// In shared memory the 16-byte pieces of a box's rows change places, so that reads down a column meet all banks: bits
/// of the address from 4 on are xored with those from 7 on, so many that the pattern spans this many bytes.
enum class Swizzle : std::uint8_t { none = 0, span_32 = 1, span_64 = 2, span_128 = 3 };

constexpr std::uint32_t swizzled(Swizzle swizzle, std::uint32_t address) {
  const std::uint32_t mask = (1u << static_cast<unsigned>(swizzle)) - 1;
  return address ^ (address >> 7 & mask) << 4;
}
/// Bytes after which the pattern begins anew.
constexpr std::int64_t swizzle_span(Swizzle swizzle) {
  return std::int64_t{16} << static_cast<unsigned>(swizzle);
}

/// Dims from the innermost out.
struct MappedTensor {
  static constexpr int max_rank = 5;
  enum class Element : std::uint8_t { u8, bf16, f32 };

  const void* address = nullptr;
  Element element = Element::u8;
  int rank = 0;
  std::array<std::int64_t, max_rank> dims{};
  std::array<std::int64_t, max_rank - 1> strides{};  ///< in bytes; [0] is dim 1's: dim 0 is contiguous
  std::array<std::int64_t, max_rank> box{};
  Swizzle swizzle = Swizzle::none;

  constexpr std::int64_t element_bytes() const { return element == Element::u8 ? 1 : element == Element::bf16 ? 2 : 4; }
  constexpr std::int64_t box_row_bytes() const { return box[0] * element_bytes(); }
  /// What a copy moves and its barrier counts, also where the box is partly outside.
  constexpr std::int64_t box_bytes() const {
    std::int64_t bytes = element_bytes();
    for (int i = 0; i < rank; ++i) bytes *= box[static_cast<std::size_t>(i)];
    return bytes;
  }
};

/// The rule of cuTensorMapEncodeTiled that a map breaks, or null.
inline const char* trouble(const MappedTensor& t) {
  if (t.rank < 1 || t.rank > MappedTensor::max_rank) return "a tensor map has 1 to 5 dims";
  if (t.address == nullptr || reinterpret_cast<std::uintptr_t>(t.address) % 16 != 0)
    return "a mapped tensor begins at a multiple of 16 bytes";
  for (int i = 0; i < t.rank; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (t.dims[at] < 1 || t.dims[at] > std::int64_t{1} << 32) return "a dim of a mapped tensor is 1 to 2^32";
    if (t.box[at] < 1 || t.box[at] > 256) return "a dim of a box is 1 to 256";
    if (i == 0) continue;
    const std::int64_t stride = t.strides[at - 1];
    if (stride < 1 || stride % 16 != 0 || stride >= std::int64_t{1} << 40)
      return "a stride of a mapped tensor is a multiple of 16 bytes below 2^40";
  }
  if (t.box_row_bytes() % 16 != 0) return "a row of a box is a multiple of 16 bytes";
  if (t.swizzle != Swizzle::none && t.box_row_bytes() > swizzle_span(t.swizzle))
    return "a row of a box fits into the swizzle's span";
  return nullptr;
}

}  // namespace fourmi::cuda::hopper
