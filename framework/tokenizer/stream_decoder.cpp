#include "framework/tokenizer/stream_decoder.h"

#include <algorithm>
#include <utility>

#include "framework/tokenizer/utf8.h"

namespace fourmi {
namespace {

/// Can further bytes make a character of `text`, which holds 1 to 3 bytes?
bool begins_character(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() >= length) return false;
  std::string whole(text);
  // The second byte decides about shortest forms and surrogates: where it is missing, some would do.
  if (whole.size() == 1) whole.push_back(first == 0xe0 || first == 0xf0 ? '\xa0' : '\x80');
  whole.resize(length, '\x80');
  return utf8::character(whole) == length;
}

}  // namespace

std::string StreamDecoder::push(std::int32_t token) {
  std::string text = std::exchange(rest_, {});
  text += tokenizer_.decode_next(token, begins_);
  begins_ = begins_ && tokenizer_.decode_next(token, false).empty();
  for (std::size_t length = std::min<std::size_t>(3, text.size()); length > 0; --length) {
    const std::string_view tail = std::string_view(text).substr(text.size() - length);
    if (!begins_character(tail)) continue;
    rest_ = text.substr(text.size() - length);
    text.erase(text.size() - length);
    break;
  }
  return text;
}

std::string StreamDecoder::finish() {
  return std::exchange(rest_, {});
}

}  // namespace fourmi
