#include "framework/recipe/write.h"

#include <fmt/format.h>

#include <unordered_map>

#include "framework/recipe/field.h"
#include "framework/recipe/scalar.h"

namespace fourmi {
namespace {

using recipe::Field;
using recipe::Type;

/// Whether the recipe has a value for this row, and which.
std::string text_of(const Field& field, const Recipe& r, std::size_t index) {
  if (!field.get || field.path == "model.config") return {};
  const recipe::Value value = field.get(r, index);
  if (std::holds_alternative<std::monostate>(value)) return {};
  const std::string* text = std::get_if<std::string>(&value);
  return text && text->empty() ? std::string() : recipe::value_text(value);
}

/// Rows of a section that this recipe's family has.
std::vector<const Field*> rows(std::string_view section, const Recipe& r) {
  const recipe::Families family = recipe::family_of(r.model.model_type);
  std::vector<const Field*> valid;
  for (const Field* field : recipe::children(section)) {
    if (family == 0 || (field->families & family)) valid.push_back(field);
  }
  return valid;
}

const std::vector<DataSource>& sources(const Field& field, const Recipe& r) {
  return field.path == "data.train" ? r.data.train : r.data.validation;
}

bool is_absent_section(const Field& field, const Recipe& r) {
  return field.type == Type::section && field.get && std::holds_alternative<std::monostate>(field.get(r, 0));
}

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
        for (const Field* part : recipe::children(field->path + "[]")) {
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

struct Entry {
  std::string key, value;
  KeyClass key_class;
};

void flatten(const std::string& section, const Recipe& r, std::vector<Entry>& out) {
  for (const Field* field : rows(section, r)) {
    if (is_absent_section(*field, r)) continue;
    if (field->type == Type::section) {
      flatten(field->path, r, out);
    } else if (field->type == Type::list) {
      std::string names;
      for (std::size_t i = 0; i < sources(*field, r).size(); ++i) {
        const std::string& name = sources(*field, r)[i].name;
        names += (names.empty() ? "" : ", ") + recipe::quoted_if_needed(name);
        for (const Field* part : recipe::children(field->path + "[]")) {
          const std::string text = text_of(*part, r, i);
          if (part->leaf() == "name" || text.empty()) continue;
          out.push_back({fmt::format("{}.{}.{}", field->path, name, part->leaf()), text, field->key_class});
        }
      }
      if (!names.empty()) out.push_back({field->path, "[" + names + "]", field->key_class});
      if (field->path == "data.validation" && r.data.holdout > 0) flatten(field->path, r, out);
    } else if (const std::string text = text_of(*field, r, 0); !text.empty()) {
      out.push_back({field->path, text, field->key_class});
    }
  }
}

}  // namespace

std::string to_yaml(const Recipe& r) {
  std::string out;
  if (!r.model.config.empty()) {
    out += fmt::format("# The keys of `model` were taken from {}\n", recipe::shown(r.model.config));
  }
  write_section("", r, "", out);
  return out;
}

std::vector<KeyChange> compare(const Recipe& old_recipe, const Recipe& new_recipe) {
  std::vector<Entry> before, after;
  flatten("", old_recipe, before);
  flatten("", new_recipe, after);
  std::unordered_map<std::string, const Entry*> old_entries, new_entries;
  for (const Entry& entry : before) old_entries.emplace(entry.key, &entry);
  for (const Entry& entry : after) new_entries.emplace(entry.key, &entry);
  std::vector<KeyChange> changes;
  for (const Entry& entry : before) {
    const auto found = new_entries.find(entry.key);
    const std::string value = found == new_entries.end() ? "none" : found->second->value;
    if (value != entry.value) changes.push_back({entry.key, entry.value, value, entry.key_class});
  }
  for (const Entry& entry : after) {
    if (!old_entries.contains(entry.key)) changes.push_back({entry.key, "none", entry.value, entry.key_class});
  }
  return changes;
}

}  // namespace fourmi
