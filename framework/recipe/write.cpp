#include "framework/recipe/write.h"

#include <fmt/format.h>

#include "framework/recipe/contents.h"
#include "framework/recipe/scalar.h"

namespace fourmi {
namespace recipe {
namespace {

void write_section(const std::string& section, const Recipe& r, const std::string& indent, std::string& out) {
  for (const Field* field : rows(section, r)) {
    const std::string key = indent + std::string(field->leaf()) + ":";
    if (is_absent_section(*field, r)) continue;
    if (field->type == Type::section) {
      out += key + "\n";
      write_section(field->path, r, indent + "  ", out);
    } else if (field->type == Type::list) {
      if (!sources(*field, r).empty()) out += key + "\n";
      for (std::size_t i = 0; i < sources(*field, r).size(); ++i) {
        std::string line;
        for (const Field* part : children(field->path + "[]")) {
          const std::string text = text_of(*part, r, i);
          if (!text.empty()) line += fmt::format("{}{}: {}", line.empty() ? "" : ", ", part->leaf(), text);
        }
        out += fmt::format("{}  - {{{}}}\n", indent, line);
      }
      if (field->path == "data.validation" && r.data.validation.empty() && r.data.holdout > 0) {
        out += key + "\n";
        write_section(field->path, r, indent + "  ", out);
      }
    } else if (const std::string text = text_of(*field, r, 0); !text.empty()) {
      out += fmt::format("{} {}\n", key, text);
    }
  }
}

}  // namespace
}  // namespace recipe

std::string to_yaml(const Recipe& r) {
  std::string out;
  if (!r.model.config.empty()) {
    out += fmt::format("# The keys of `model` were taken from {}\n", recipe::shown(r.model.config));
  }
  recipe::write_section("", r, "", out);
  return out;
}

}  // namespace fourmi
