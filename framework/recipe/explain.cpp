#include "framework/recipe/explain.h"

#include <nlohmann/json.hpp>

#include "framework/recipe/field.h"
#include "framework/recipe/scalar.h"
#include "kernels/runtime/error.h"

namespace fourmi {
namespace recipe {
namespace {

std::string type_text(const Field& field) {
  const std::string text = expectation(field);
  return text.substr(text.find(' ') + 1);
}

std::string class_meaning(KeyClass key_class) {
  switch (key_class) {
    case KeyClass::free:
      return "free: may differ between launches of a run";
    case KeyClass::asked:
      return "asked: a run that goes on with another value needs --accept-changes";
    case KeyClass::fixed:
      return "fixed: never changes during a run";
  }
  return {};
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

/// Keys that a user may mean by a word, and what to say about the word first.
struct Answer {
  std::string remark;
  std::vector<const Field*> found;
};

/// "data.train.weight" and "data.train[].weight" are the same key.
const Field* find_path(const std::string& key) {
  if (const Field* field = find_field(key)) return field;
  for (const std::string list : {"data.train", "data.validation", "distill.harvest.prompts"}) {
    if (key.starts_with(list + ".")) return find_field(list + "[]" + key.substr(list.size()));
  }
  return nullptr;
}

Answer answer(const std::string& key) {
  if (const Field* field = find_path(key)) return {"", {field}};
  if (const auto& named = fields_named(key); !named.empty()) return {"", named};
  const std::size_t dot = key.rfind('.');
  const std::string leaf = dot == std::string::npos ? key : key.substr(dot + 1);
  if (const auto& foreign = find_foreign(leaf); !foreign.empty()) {
    std::vector<std::string> names;
    for (const Field* field : foreign) names.push_back(field->path);
    return {fmt::format("fourmi's name for {} is {}.\n\n", shown(leaf), joined(names)), foreign};
  }
  std::vector<std::string> paths, leaves;
  for (const Field& field : fields()) {
    paths.push_back(field.path);
    leaves.emplace_back(field.leaf());
  }
  std::string close = closest(key, paths);
  if (close.empty()) close = closest(leaf, leaves);
  throw Error(ExitStatus::usage, "explain",
              fmt::format("found the unknown key `{}`, expected a key of a recipe", shown(key)),
              close.empty() ? "`fourmi explain` without a key lists all" : fmt::format("Did you mean `{}`?", close));
}

std::string in_words(const Field& field) {
  std::string out = fmt::format("{}\n  {}\n", field.path, field.meaning);
  const auto line = [&](std::string_view what, const std::string& text) {
    if (!text.empty()) out += fmt::format("  {:<9} {}\n", what, text);
  };
  if (field.type == Type::section && !field.get) {
    for (const Field* child : children(field.path)) out += fmt::format("  {:<32} {}\n", child->leaf(), child->meaning);
    return out;
  }
  line("type", type_text(field) + (field.nullable ? ", or null" : ""));
  line("unit", field.unit);
  line("default", default_text(field));
  line("class", class_meaning(field.key_class));
  if (field.families != kAll) line("valid for", families_text(field.families));
  line("elsewhere", joined(field.foreign));
  for (const std::string& part : {field.path, field.path + "[]"}) {
    for (const Field* child : children(part)) out += fmt::format("  {:<32} {}\n", child->path, child->meaning);
  }
  return out;
}

nlohmann::ordered_json as_json(const Field& field) {
  nlohmann::ordered_json json;
  json["key"] = field.path;
  json["meaning"] = field.meaning;
  json["type"] = type_text(field);
  json["nullable"] = field.nullable;
  json["unit"] = field.unit;
  json["default"] = default_text(field);
  json["class"] = class_text(field.key_class);
  if (!field.choices.empty()) json["choices"] = field.choices;
  if (field.path.starts_with("model.")) json["valid_for"] = families_text(field.families);
  json["elsewhere"] = field.foreign;
  return json;
}

std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out.empty() ? " " : out;
}

std::string row(const Field& field) {
  std::string meaning = field.meaning;
  if (field.families != kAll) meaning += " (" + families_text(field.families) + ")";
  const bool keys_follow = field.type == Type::section;
  return fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", field.path,
                     cell(keys_follow ? "section" : type_text(field) + (field.nullable ? ", or null" : "")),
                     cell(field.unit), cell(default_text(field)), class_text(field.key_class), cell(meaning));
}

}  // namespace
}  // namespace recipe

std::string explain_key(const std::string& key) {
  const recipe::Answer answer = recipe::answer(key);
  std::string out = answer.remark;
  for (std::size_t i = 0; i < answer.found.size(); ++i) {
    if (i > 0) out += '\n';
    out += recipe::in_words(*answer.found[i]);
  }
  return out;
}

std::string explain_key_json(const std::string& key) {
  nlohmann::ordered_json json;
  json["key"] = key;
  json["keys"] = nlohmann::ordered_json::array();
  for (const recipe::Field* field : recipe::answer(key).found) json["keys"].push_back(recipe::as_json(*field));
  return json.dump(2);
}

std::string recipe_page() {
  std::string out =
      "# The recipe: every key\n\n"
      "This page is what `fourmi explain` prints without a key; a test keeps it true. `fourmi explain KEY` prints one "
      "key, "
      "also for names that other stacks use. `fourmi schema` prints `recipe.schema.json`, which editors check recipes "
      "with.\n\n"
      "A recipe is one YAML 1.2 document, read strictly: unknown, duplicate and misplaced keys are errors, and so are "
      "aliases, anchors, tags, octal numbers, `yes` and `no`. Whole numbers may be written `100e9`. A value that "
      "changes "
      "during a run is `[[tokens, value], ...]`.\n\n"
      "`base` (a file or a list of files, relative to the file that names it) takes over other recipes, the later ones "
      "over the earlier ones and the file itself over all: sections merge, lists and values replace. `run.steps`, "
      "`run.tokens` and `run.epochs` replace one another, and so does each position of the schedule in steps and in "
      "tokens. Overrides on the command line, `section.key=value`, come last; `data.train.web.weight=0.5` reaches an "
      "element of a list by its name or its index.\n\n"
      "The class says what a changed value means for a run that goes on: *free* keys may differ, *asked* keys need "
      "`--accept-changes`, *fixed* keys never change.\n";
  for (const recipe::Field* section : recipe::children("")) {
    out += fmt::format("\n## {}\n\n{}\n\n", section->path, section->meaning);
    out += "| key | value | unit | default | class | meaning |\n|---|---|---|---|---|---|\n";
    for (const recipe::Field& field : recipe::fields()) {
      if (field.path.starts_with(section->path + ".")) out += recipe::row(field);
    }
  }
  out += "\n## Names from elsewhere\n\n| other stacks | fourmi |\n|---|---|\n";
  for (const recipe::Field& field : recipe::fields()) {
    if (!field.foreign.empty()) out += fmt::format("| {} | `{}` |\n", recipe::joined(field.foreign), field.path);
  }
  return out;
}

}  // namespace fourmi
