// What a GGUF file (version 2 or 3, little-endian) says before its data: keys with values, and where each tensor lies.
// Read strictly, because such files come from anywhere: every length is held against the file's before it is believed.
// Source: the format's description in ggml's docs/gguf.md.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "framework/interop/gguf/quantized.h"

namespace fourmi::interop {

/// Bytes that can be read by position.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual std::int64_t size() const = 0;
  /// [offset, offset + out.size()) is inside.
  virtual void read(std::int64_t offset, std::span<std::byte> out) const = 0;
};

/// Integers of all widths are one kind, and so are floats (an f32 as the number that it is written as, 1e-05).
using GgufValue = std::variant<bool, std::int64_t, double, std::string, std::vector<bool>, std::vector<std::int64_t>,
                               std::vector<double>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  GgufType type = GgufType::f32;
  std::vector<std::int64_t> shape;  ///< rows first, as Hugging Face has them: the reverse of the file's
  std::int64_t begin = 0;           ///< byte in the file
  std::int64_t bytes = 0;
};

struct GgufHeader {
  std::string place;  ///< the file, for messages
  std::map<std::string, GgufValue> values;
  std::vector<GgufTensor> tensors;  ///< in the order of their bytes

  const GgufTensor* find(std::string_view name) const;
  bool has(const std::string& key) const { return values.contains(key); }
  /// The value of a key. Throws Error(input) naming the key if it is absent or of another kind.
  template <class T>
  const T& get(const std::string& key) const;
  template <class T>
  T get_or(const std::string& key, T otherwise) const {
    return has(key) ? get<T>(key) : otherwise;
  }
};

/// Throws Error(input) at `place` with the key, the tensor or the byte: another format or version, what the file is too
/// short for, keys or tensors twice, types that are not read, tensors that overlap, leave a gap, or end before the file
/// does.
GgufHeader read_gguf_header(const ByteSource& file, const std::string& place);

}  // namespace fourmi::interop
