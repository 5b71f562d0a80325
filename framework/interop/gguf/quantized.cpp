#include "framework/interop/gguf/quantized.h"

#include <array>
#include <bit>
#include <cstring>

#include "kernels/runtime/error.h"

namespace fourmi::interop {
namespace {

constexpr std::array types{GgufTypeInfo{GgufType::f32, "F32", 1, 4}, GgufTypeInfo{GgufType::f16, "F16", 1, 2},
                           GgufTypeInfo{GgufType::q4_1, "Q4_1", 32, 20}, GgufTypeInfo{GgufType::q8_0, "Q8_0", 32, 34},
                           GgufTypeInfo{GgufType::bf16, "BF16", 1, 2}};

std::uint16_t two_bytes(const std::byte* at) {
  std::uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return bits;
}

/// IEEE binary16, exactly.
float half(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent > 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
}

}  // namespace

const GgufTypeInfo* find_gguf_type(std::uint32_t number) {
  for (const GgufTypeInfo& info : types)
    if (static_cast<std::uint32_t>(info.type) == number) return &info;
  return nullptr;
}

const GgufTypeInfo& info_of(GgufType type) {
  const GgufTypeInfo* info = find_gguf_type(static_cast<std::uint32_t>(type));
  FOURMI_CHECK(info != nullptr, "GGUF type {}", static_cast<int>(type));
  return *info;
}

std::string_view ggml_type_name(std::uint32_t number) {
  constexpr std::string_view names[] = {"F32",     "F16",    "Q4_0",    "Q4_1",  "Q4_2",   "Q4_3",  "Q5_0",  "Q5_1",
                                        "Q8_0",    "Q8_1",   "Q2_K",    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K",  "Q8_K",
                                        "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
                                        "I8",      "I16",    "I32",     "I64",   "F64",    "IQ1_M", "BF16"};
  return number < std::size(names) ? names[number] : "unknown";
}

void dequantize(GgufType type, std::span<const std::byte> in, std::span<float> out) {
  const GgufTypeInfo& info = info_of(type);
  const std::size_t blocks = out.size() / static_cast<std::size_t>(info.block_elements);
  FOURMI_CHECK(out.size() == blocks * static_cast<std::size_t>(info.block_elements) &&
                   in.size() == blocks * static_cast<std::size_t>(info.block_bytes),
               "{} bytes for {} elements of {}", in.size(), out.size(), info.name);
  const std::byte* from = in.data();
  float* to = out.data();
  for (std::size_t b = 0; b < blocks; ++b, from += info.block_bytes, to += info.block_elements) {
    switch (type) {
      case GgufType::f32:
        std::memcpy(to, from, sizeof(float));
        break;
      case GgufType::f16:
        *to = half(two_bytes(from));
        break;
      case GgufType::bf16:
        *to = std::bit_cast<float>(std::uint32_t{two_bytes(from)} << 16);
        break;
      case GgufType::q8_0: {
        const float d = half(two_bytes(from));
        for (int i = 0; i < 32; ++i) to[i] = d * static_cast<float>(static_cast<std::int8_t>(from[2 + i]));
        break;
      }
      case GgufType::q4_1: {
        const float d = half(two_bytes(from)), m = half(two_bytes(from + 2));
        for (int i = 0; i < 16; ++i) {
          const auto both = static_cast<unsigned>(from[4 + i]);
          to[i] = static_cast<float>(both & 15) * d + m;
          to[i + 16] = static_cast<float>(both >> 4) * d + m;
        }
        break;
      }
    }
  }
}

}  // namespace fourmi::interop
