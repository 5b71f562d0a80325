#include "framework/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>

#include "framework/tokenizer/utf8.h"

namespace fourmi {
namespace {

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

std::string_view strip(std::string_view text, bool left, bool right) {
  while (left && !text.empty()) {
    const std::size_t length = utf8::character(text);
    if (length == 0 || !utf8::is_white_space(utf8::code_point(text.substr(0, length)))) break;
    text.remove_prefix(length);
  }
  while (right && !text.empty()) {
    std::size_t at = text.size() - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
    if (!utf8::is_white_space(utf8::code_point(text.substr(at)))) break;
    text.remove_suffix(text.size() - at);
  }
  return text;
}

void lowercase(std::string_view text, std::string& out) {
  while (!text.empty()) {
    const std::size_t length = utf8::character(text);
    const char32_t c = utf8::code_point(text.substr(0, length));
    if (c < 0x80) {
      out.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
    } else if (c == 0x130) {  // the one character whose lower case is two: i with a dot above
      out += "i\u0307";
    } else {
      utf8::append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
    text.remove_prefix(length);
  }
}

}  // namespace

bool TextNormalizer::step(const NormalizerStep& s, std::string_view text, bool begins, std::string& out) {
  switch (s.kind) {
    case NormalizerStep::Kind::form:
      if (s.form == NormalForm::c ? surely_nfc(text) : is_ascii(text)) return false;
      out = normal_form(text, s.form);
      return true;
    case NormalizerStep::Kind::lowercase:
      lowercase(text, out);
      return true;
    case NormalizerStep::Kind::strip:
      out = strip(text, s.left, s.right);
      return true;
    case NormalizerStep::Kind::prepend:
      if (text.empty() || !begins) return false;
      out.append(s.content).append(text);
      return true;
    case NormalizerStep::Kind::replace:
      break;
  }
  std::size_t at = 0;
  for (TextSpan match; at < text.size(); at = match.end) {
    if (s.regex) {
      if (!matcher_.find(*s.regex, text, at, match)) break;
    } else {
      match.begin = text.find(s.pattern, at);
      if (match.begin == std::string_view::npos) break;
      match.end = match.begin + s.pattern.size();
    }
    out.append(text.substr(at, match.begin - at)).append(s.content);
  }
  if (at == 0) return false;
  out.append(text.substr(at));
  return true;
}

std::string_view TextNormalizer::apply(std::string_view text, bool begins) {
  std::size_t next = 0;
  for (const NormalizerStep& s : steps_) {
    texts_[next].clear();
    if (!step(s, text, begins, texts_[next])) continue;
    text = texts_[next];
    next = 1 - next;
  }
  return text;
}

}  // namespace fourmi
