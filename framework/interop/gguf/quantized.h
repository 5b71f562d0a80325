// The element types of GGUF tensors that are read, as f32. Source: ggml's ggml-common.h and ggml-quants.c.
//   F32, F16, BF16  themselves
//   Q8_0            32 elements: f16 d, 32 i8 q;              d * q
//   Q4_1            32 elements: f16 d, f16 m, 16 bytes of q; d * q + m, the low halves first
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace fourmi::interop {

enum class GgufType : std::uint8_t { f32 = 0, f16 = 1, q4_1 = 3, q8_0 = 8, bf16 = 30 };

struct GgufTypeInfo {
  GgufType type;
  std::string_view name;
  std::int64_t block_elements, block_bytes;
};
/// By the number that stands in files; null: not read.
const GgufTypeInfo* find_gguf_type(std::uint32_t number);
const GgufTypeInfo& info_of(GgufType type);
/// How ggml names the type of this number, for messages; "unknown" for one of no type.
std::string_view ggml_type_name(std::uint32_t number);

/// `in` holds exactly out.size() elements, whole blocks.
void dequantize(GgufType type, std::span<const std::byte> in, std::span<float> out);

}  // namespace fourmi::interop
