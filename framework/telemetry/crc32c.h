// CRC-32C (Castagnoli, RFC 3720 appendix B.4), and the masked form that record files keep it in: a checksum of bytes
// that hold a checksum would otherwise be weak.
#pragma once

#include <cstdint>
#include <string_view>

namespace fourmi {

std::uint32_t crc32c(std::string_view bytes);

inline std::uint32_t masked_crc32c(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

}  // namespace fourmi
