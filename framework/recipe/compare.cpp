#include "framework/recipe/compare.h"

#include <fmt/format.h>

#include <unordered_map>

#include "framework/recipe/contents.h"
#include "framework/recipe/scalar.h"

namespace fourmi {
namespace recipe {
namespace {

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
        names += (names.empty() ? "" : ", ") + quoted_if_needed(name);
        for (const Field* part : children(field->path + "[]")) {
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
}  // namespace recipe

std::vector<ChangedKey> compare(const Recipe& before, const Recipe& after) {
  std::vector<recipe::Entry> old_list, new_list;
  recipe::flatten("", before, old_list);
  recipe::flatten("", after, new_list);
  std::unordered_map<std::string, const recipe::Entry*> old_entries, new_entries;
  for (const recipe::Entry& entry : old_list) old_entries.emplace(entry.key, &entry);
  for (const recipe::Entry& entry : new_list) new_entries.emplace(entry.key, &entry);
  std::vector<ChangedKey> changes;
  for (const recipe::Entry& entry : old_list) {
    const auto found = new_entries.find(entry.key);
    const std::string value = found == new_entries.end() ? "none" : found->second->value;
    if (value != entry.value) changes.push_back({entry.key, entry.value, value, entry.key_class});
  }
  for (const recipe::Entry& entry : new_list) {
    if (!old_entries.contains(entry.key)) changes.push_back({entry.key, "none", entry.value, entry.key_class});
  }
  return changes;
}

}  // namespace fourmi
