#include "framework/interop/stored_type.h"

#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "kernels/numerics/bfloat16.h"
#include "kernels/numerics/float8.h"
#include "kernels/runtime/error.h"

namespace fourmi::interop {
namespace {

constexpr std::pair<std::string_view, std::int64_t> known[] = {
    {"F64", 8},     {"F32", 4},     {"F16", 2},     {"BF16", 2},        {"I64", 8},        {"I32", 4},  {"I16", 2},
    {"I8", 1},      {"U64", 8},     {"U32", 4},     {"U16", 2},         {"U8", 1},         {"BOOL", 1}, {"C64", 8},
    {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"F8_E4M3FNUZ", 1}, {"F8_E5M2FNUZ", 1}};

/// IEEE half precision: five exponent bits, ten of mantissa.
float widen_half(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16, exponent = (bits >> 10) & 31u,
                      mantissa = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return sign ? -magnitude : magnitude;
}

template <class Bits, class Convert>
void convert(std::span<const std::byte> in, std::span<float> out, Convert widen_one) {
  FOURMI_CHECK(in.size() == out.size() * sizeof(Bits), "{} bytes for {} elements", in.size(), out.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    Bits bits;
    std::memcpy(&bits, in.data() + i * sizeof(Bits), sizeof(Bits));
    out[i] = widen_one(bits);
  }
}

}  // namespace

std::string_view name_of(StoredType type) {
  constexpr std::array<std::string_view, 6> names{"F32", "F16", "BF16", "F8_E4M3", "blocks", "another type"};
  return names[static_cast<std::size_t>(type)];
}

StoredType parse_stored_type(std::string_view name) {
  for (StoredType t : {StoredType::f32, StoredType::f16, StoredType::bf16, StoredType::f8_e4m3})
    if (name == name_of(t)) return t;
  return StoredType::other;
}

std::optional<std::int64_t> element_bytes(std::string_view name) {
  for (const auto& [known_name, bytes] : known)
    if (name == known_name) return bytes;
  return std::nullopt;
}

std::int64_t size_of(StoredType type) {
  FOURMI_CHECK(type != StoredType::other && type != StoredType::blocks, "a size of {}", name_of(type));
  return *element_bytes(name_of(type));
}

void widen(StoredType type, std::span<const std::byte> in, std::span<float> out) {
  switch (type) {
    case StoredType::f32:
      return convert<float>(in, out, [](float x) { return x; });
    case StoredType::f16:
      return convert<std::uint16_t>(in, out, widen_half);
    case StoredType::bf16:
      return convert<std::uint16_t>(in, out,
                                    [](std::uint16_t b) { return static_cast<float>(bfloat16::from_bits(b)); });
    case StoredType::f8_e4m3:
      return convert<std::uint8_t>(in, out,
                                   [](std::uint8_t b) { return static_cast<float>(float8_e4m3::from_bits(b)); });
    case StoredType::blocks:
    case StoredType::other:
      break;
  }
  FOURMI_CHECK(false, "another type is never widened");
}

void narrow(StoredType type, std::span<const float> in, std::span<std::byte> out) {
  FOURMI_CHECK(out.size() == in.size() * static_cast<std::size_t>(size_of(type)), "{} elements in {} bytes", in.size(),
               out.size());
  if (type == StoredType::f32) {
    if (!in.empty()) std::memcpy(out.data(), in.data(), out.size());
    return;
  }
  FOURMI_CHECK(type == StoredType::bf16, "narrowing to {}", name_of(type));
  for (std::size_t i = 0; i < in.size(); ++i) {
    const bfloat16 x(in[i]);
    std::memcpy(out.data() + 2 * i, &x, 2);
  }
}

}  // namespace fourmi::interop
