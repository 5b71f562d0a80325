// The element types of safetensors files that a model's weights can have, and what becomes of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace fourmi::interop {

/// `blocks`: elements of few bits that share scales, which a GGUF file's own reader makes f32 of; `other`: a type of
/// the format that no weight of ours can have (integers, F64 ...).
enum class StoredType : std::uint8_t { f32, f16, bf16, f8_e4m3, blocks, other };

/// How safetensors names it.
std::string_view name_of(StoredType type);
StoredType parse_stored_type(std::string_view name);
/// Bytes of an element of the type with this name; nothing for a name that the format does not have.
std::optional<std::int64_t> element_bytes(std::string_view name);
/// Of all but `blocks` and `other`.
std::int64_t size_of(StoredType type);

/// Elements as f32, exactly. `in` holds as many elements as `out`; not for `blocks` and `other`.
void widen(StoredType type, std::span<const std::byte> in, std::span<float> out);
/// To f32 or bf16 (to the nearest, ties to even).
void narrow(StoredType type, std::span<const float> in, std::span<std::byte> out);

}  // namespace fourmi::interop
