// The header of a safetensors file: eight bytes of length (little-endian), so many bytes of JSON, then the data.
// Read strictly, because such files come from anywhere: what is not exactly a file that its header describes, from the
// first byte to the last, is refused.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "framework/interop/stored_type.h"
#include "kernels/runtime/tensor.h"

namespace fourmi::interop {

/// A longer header is no header (the format's own limit).
inline constexpr std::int64_t most_header_bytes = 100'000'000;

struct StoredTensor {
  std::string name, type_name;
  StoredType type = StoredType::other;
  Shape shape;
  std::int64_t begin = 0, end = 0;  ///< bytes of the data
  std::int64_t bytes() const { return end - begin; }
};

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  ///< in the order of their bytes
  std::map<std::string, std::string> metadata;
};

/// The length that a file's first eight bytes give. Throws Error(input) at `place` if the file of `file_bytes` cannot
/// have it.
std::int64_t header_length(std::string_view first_eight, std::int64_t file_bytes, const std::string& place);

/// `json` is followed by `data_bytes` of data. Throws Error(input) at `place` (the file), naming the tensor: no JSON,
/// keys twice, unknown types, more than five dims, bytes that do not fit the shape, lie outside, overlap or leave a
/// gap.
SafetensorsHeader parse_safetensors_header(std::string_view json, std::int64_t data_bytes, const std::string& place);

/// Gives each tensor its place, wide types first and names ascending among equals, as the format's own library does.
void lay_out(std::vector<StoredTensor>& tensors);
/// Length and JSON, a multiple of eight bytes, of tensors that are laid out.
std::string safetensors_header_text(const std::vector<StoredTensor>& tensors);

}  // namespace fourmi::interop
