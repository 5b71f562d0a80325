#include "framework/recipe/contents.h"

#include <fmt/format.h>

namespace fourmi::recipe {

namespace {

/// A section of a list's element: `{key: value, ...}`.
std::string map_text(const Field& section, const Recipe& r, std::size_t index) {
  std::string text;
  for (const Field* part : children(section.path))
    if (const std::string value = text_of(*part, r, index); !value.empty())
      text += fmt::format("{}{}: {}", text.empty() ? "{" : ", ", part->leaf(), value);
  return text.empty() ? text : text + "}";
}

}  // namespace

std::string text_of(const Field& field, const Recipe& r, std::size_t index) {
  if (!field.get || field.path == "model.config") return {};
  if (field.type == Type::section) return map_text(field, r, index);
  const Value value = field.get(r, index);
  if (std::holds_alternative<std::monostate>(value)) return {};
  if (const auto* words = std::get_if<std::vector<std::string>>(&value); words && words->empty()) return {};
  const std::string* text = std::get_if<std::string>(&value);
  return text && text->empty() ? std::string() : value_text(value);
}

std::vector<const Field*> rows(std::string_view section, const Recipe& r) {
  const Families family = family_of(r.model.model_type);
  std::vector<const Field*> valid;
  for (const Field* field : children(section)) {
    if (family == 0 || (field->families & family)) valid.push_back(field);
  }
  return valid;
}

const std::vector<DataSource>& sources(const Field& field, const Recipe& r) {
  if (field.path == "distill.harvest.prompts") return r.distill.harvest.prompts;
  return field.path == "data.train" ? r.data.train : r.data.validation;
}

bool is_absent_section(const Field& field, const Recipe& r) {
  return field.type == Type::section && field.get && std::holds_alternative<std::monostate>(field.get(r, 0));
}

}  // namespace fourmi::recipe
