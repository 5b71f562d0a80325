// Renders a template, the way transformers' apply_chat_template does: Jinja2's immutable sandbox with loop controls,
// raise_exception, strftime_now, range, namespace, dict, and tojson as json.dumps(ensure_ascii=False).
// What a template may use is listed in docs/chat.md; everything else is refused with its line. Work, depth and size are
// bounded, so a hostile template ends in an error.
#pragma once

#include <cstddef>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "framework/chat/jinja/syntax.h"

namespace fourmi::jinja {

struct Rendered {
  std::string text;
  std::vector<std::pair<std::size_t, std::size_t>> generated;  ///< bytes between {% generation %} and its end, in order
};

/// `now`: what strftime_now tells. Throws Error(input) at `place:line`; what a template itself refuses
/// (raise_exception) is such an error too.
Rendered render(const Block& block, const Dict& variables, std::time_t now, const std::string& place);

}  // namespace fourmi::jinja
