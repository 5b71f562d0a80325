// CRC-32 of what a cache's part holds (zlib's).
#pragma once

#include <zlib.h>

#include <cstdint>
#include <span>

namespace fourmi {

template <class T>
std::uint32_t crc32_of(std::span<const T> values, std::uint32_t before = 0) {
  return static_cast<std::uint32_t>(
      crc32_z(before, reinterpret_cast<const Bytef*>(values.data()), values.size_bytes()));
}

inline std::uint32_t cache_checksum(std::span<const std::uint32_t> entries, std::span<const float> rest) {
  return crc32_of(rest, crc32_of(entries));
}

inline std::uint32_t cache_table_checksum(std::span<const std::int64_t> first_tokens,
                                          std::span<const std::int32_t> rows,
                                          std::span<const std::uint32_t> checksums) {
  return crc32_of(checksums, crc32_of(rows, crc32_of(first_tokens)));
}

}  // namespace fourmi
