#include "framework/tokenizer/nfc.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/runtime/error.h"

namespace fourmi {

bool surely_nfc(std::string_view text) {
  for (const char c : text)
    if (static_cast<unsigned char>(c) >= 0xcc) return false;  // lead bytes of U+0300 and on
  return true;
}

std::string normal_form(std::string_view text, NormalForm form) {
  if (text.empty()) return {};
  int options = UTF8PROC_STABLE;
  options |= form == NormalForm::c || form == NormalForm::kc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::kc || form == NormalForm::kd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &result, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(result, std::free);
  if (length == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
  FOURMI_CHECK(length >= 0, "utf8proc: {}", utf8proc_errmsg(length));
  return {reinterpret_cast<const char*>(result), static_cast<std::size_t>(length)};
}

std::string nfc(std::string_view text) {
  return normal_form(text, NormalForm::c);
}

}  // namespace fourmi
