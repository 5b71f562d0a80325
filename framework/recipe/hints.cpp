// What to say about a key that does not exist where it stands: where it belongs, what fourmi calls it, how it is spelt.
#include "framework/recipe/reading.h"
#include "framework/recipe/scalar.h"

namespace fourmi::recipe {
namespace {

std::string display(std::string_view section) {
  return section.empty() ? "the recipe" : fmt::format("`{}`", section);
}

std::vector<std::string> names_in(const std::string& section, Families family) {
  std::vector<std::string> names;
  for (const Field* field : children(section)) {
    if (family == 0 || (field->families & family)) names.emplace_back(field->leaf());
  }
  if (section.empty()) names.emplace_back("base");
  return names;
}

std::string all_of(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "`" : ", `") + name + "`";
  return out;
}

/// Paths with this last name, without brackets of lists.
std::string places_of(const std::vector<const Field*>& found, Families family) {
  std::string out;
  for (const Field* field : found) {
    if (family == 0 || (field->families & family)) out += (out.empty() ? "`" : " or `") + field->path + "`";
  }
  return out;
}

std::string find_hint(const std::string& name, const std::string& section, Families family) {
  if (name == "<<") return "Merge keys are no YAML 1.2; `base` takes over keys of other recipes";
  if (name == "base") return "`base` belongs to the top of the file";
  if (const std::string home = places_of(fields_named(name), family); !home.empty()) return "It belongs to " + home;
  if (const std::string ours = places_of(find_foreign(name), family); !ours.empty()) return "fourmi calls it " + ours;
  const std::string close = closest(name, names_in(section, family));
  if (!close.empty()) return fmt::format("Did you mean `{}`?", close);
  std::string best;
  std::size_t least = name.size() < 5 ? 1 : 2;
  for (const Field& field : fields()) {
    if (name.size() > 64 || (family != 0 && !(field.families & family))) continue;
    const std::size_t distance = edit_distance(name, field.leaf());
    if (distance <= least && (best.empty() || distance < least)) {
      least = distance;
      best = field.path;
    }
  }
  return best.empty() ? "" : fmt::format("Did you mean `{}`?", best);
}

}  // namespace

void report_unknown(const Key& key, const std::string& section, Families family, Issues& issues) {
  if (issues.full()) return issues.add(key.place, "", "");  // only counted: no use in looking for hints
  const Field* field = find_field(section.empty() ? key.name : section + "." + key.name);
  if (field) {
    const std::string ours = places_of(find_foreign(key.name), family);
    issues.add(key.place, fmt::format("found the key `{}` of {}", key.name, families_text(field->families)),
               "expected a key of " + families_text(family), ours.empty() ? "" : "Its name there is " + ours);
    return;
  }
  const std::vector<std::string> names = names_in(section, family);
  const std::string expected = names.size() <= (section.empty() ? 20 : 12)
                                   ? fmt::format("expected one of {}", all_of(names))
                                   : fmt::format("expected a key that `fourmi explain {}` lists", section);
  issues.add(key.place, fmt::format("found the unknown key `{}` in {}", shown(key.name), display(section)), expected,
             find_hint(key.name, section, family));
}

}  // namespace fourmi::recipe
