#include "framework/tokenizer/byte_level.h"

#include "framework/tokenizer/utf8.h"

namespace fourmi::byte_level {
namespace {

bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/// Of the characters below U+0144; -1: no byte's.
const std::array<int, 0x144>& byte_of_character() {
  static const std::array<int, 0x144> table = [] {
    std::array<int, 0x144> t;
    t.fill(-1);
    for (int b = 0; b < 256; ++b) t[characters()[static_cast<std::size_t>(b)]] = b;
    return t;
  }();
  return table;
}

}  // namespace

const std::array<char32_t, 256>& characters() {
  static const std::array<char32_t, 256> table = [] {
    std::array<char32_t, 256> t{};
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) t[static_cast<std::size_t>(b)] = is_printable(b) ? static_cast<char32_t>(b) : next++;
    return t;
  }();
  return table;
}

std::string written(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) utf8::append(text, characters()[static_cast<unsigned char>(c)]);
  return text;
}

std::optional<std::string> bytes_of(std::string_view text) {
  const auto& table = byte_of_character();
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const auto first = static_cast<unsigned char>(text[0]);
    const std::size_t length = first < 0x80 ? 1 : utf8::character(text);
    if (length == 0) return std::nullopt;
    const char32_t c = first < 0x80 ? first : utf8::code_point(text.substr(0, length));
    if (c >= table.size() || table[c] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(table[c]));
    text.remove_prefix(length);
  }
  return bytes;
}

}  // namespace fourmi::byte_level
