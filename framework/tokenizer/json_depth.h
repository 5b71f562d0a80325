// How deep a JSON text goes. A library reads it without the stack, but what was read is copied, compared and written by
// calls within calls: a text of brackets alone, from anywhere, would end the program.
#pragma once

#include <string_view>

namespace fourmi {

/// Deeper than any honest file or request, and shallow enough for every thread's stack.
inline constexpr int most_json_depth = 500;

/// Whether more than `most` arrays and objects lie in each other. Of what is no JSON this may be wrong.
inline bool is_json_deeper(std::string_view json, int most = most_json_depth) {
  int depth = 0;
  bool in_text = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_text) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_text = false;
    } else if (c == '"') {
      in_text = true;
    } else if (c == '[' || c == '{') {
      if (++depth > most) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace fourmi
