#include <algorithm>
#include <cmath>

#include "framework/recipe/reading.h"
#include "framework/recipe/scalar.h"

namespace fourmi::recipe {
namespace {

/// Reads a scalar's text as a number of a row's type and range; nullopt where it is none.
template <class Number>
bool in_range(const Field& field, Number number) {
  const double value = static_cast<double>(number);
  return value >= field.least && value <= field.most && !(field.above_least && value == field.least);
}

bool is_number(const Node& node) {
  return node.kind == Node::Kind::scalar && !node.quoted && shape_of(node.text) == Shape::number;
}

std::optional<double> number_of(const Node& node) {
  return is_number(node) ? to_number(node.text) : std::nullopt;
}

bool has_control(const std::string& text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return true;
  }
  return false;
}

std::optional<Value> read_stepped(const Field& field, const Node& node) {
  const auto value_of = [&](const Node& item) -> std::optional<double> {
    const std::optional<double> number = number_of(item);
    const bool fits = number && in_range(field, *number) && (!field.whole_values || to_whole(item.text));
    return fits ? number : std::nullopt;
  };
  Stepped stepped;
  if (const std::optional<double> constant = value_of(node)) {
    stepped.steps.emplace_back(0.0, *constant);
    return stepped;
  }
  if (node.kind != Node::Kind::sequence || node.items.empty()) return std::nullopt;
  for (const Node& item : node.items) {
    if (item.kind != Node::Kind::sequence || item.items.size() != 2) return std::nullopt;
    const std::int64_t tokens = is_number(item.items[0]) ? to_whole(item.items[0].text).value_or(-1) : -1;
    const std::optional<double> value = value_of(item.items[1]);
    const bool first = stepped.steps.empty();
    const bool ascends = first ? tokens == 0 : static_cast<double>(tokens) > stepped.steps.back().first;
    if (!ascends || !value) return std::nullopt;
    stepped.steps.emplace_back(static_cast<double>(tokens), *value);
  }
  return stepped;
}

/// The value of a key, or nullopt where it is not what the row asks for.
std::optional<Value> value_of(const Field& field, const Node& node) {
  if (node.kind == Node::Kind::null) return field.nullable ? std::optional<Value>(Value{}) : std::nullopt;
  const bool scalar = node.kind == Node::Kind::scalar;
  switch (field.type) {
    case Type::boolean:
      if (!scalar || node.quoted || shape_of(node.text) != Shape::boolean) return std::nullopt;
      return Value(node.text == "true");
    case Type::whole: {
      const std::optional<std::int64_t> whole = is_number(node) ? to_whole(node.text) : std::nullopt;
      return whole && in_range(field, *whole) ? std::optional<Value>(*whole) : std::nullopt;
    }
    case Type::number: {
      const std::optional<double> number = number_of(node);
      return number && in_range(field, *number) ? std::optional<Value>(*number) : std::nullopt;
    }
    case Type::text:
    case Type::choice:
      if (!scalar || node.text.empty() || has_control(node.text)) return std::nullopt;
      if (!node.quoted && shape_of(node.text) != Shape::text) return std::nullopt;
      return Value(node.text);
    case Type::duration:
    case Type::steps_or_duration: {
      if (field.type == Type::steps_or_duration && is_number(node)) {
        const std::optional<std::int64_t> steps = to_whole(node.text);
        return steps && in_range(field, *steps) ? std::optional<Value>(*steps) : std::nullopt;
      }
      const std::optional<double> seconds = scalar ? to_seconds(node.text) : std::nullopt;
      const bool zero_is_valid = field.type == Type::duration && field.least == 0 && !field.above_least;
      return seconds && (*seconds > 0 || (zero_is_valid && *seconds == 0)) ? std::optional<Value>(Seconds{*seconds})
                                                                           : std::nullopt;
    }
    case Type::stepped:
      return read_stepped(field, node);
    case Type::betas: {
      if (node.kind != Node::Kind::sequence || node.items.size() != 2) return std::nullopt;
      std::vector<double> pair;
      for (const Node& item : node.items) {
        const std::optional<double> number = number_of(item);
        if (!number || !(*number >= 0 && *number < 1)) return std::nullopt;
        pair.push_back(*number);
      }
      return Value(pair);
    }
    case Type::first_last: {
      if (node.kind != Node::Kind::sequence || (node.items.size() != 2 && !node.items.empty())) return std::nullopt;
      std::vector<double> pair;
      for (const Node& item : node.items) {
        const std::optional<std::int64_t> whole = is_number(item) ? to_whole(item.text) : std::nullopt;
        if (!whole || !in_range(field, *whole)) return std::nullopt;
        if (!pair.empty() && static_cast<double>(*whole) < pair.back()) return std::nullopt;
        pair.push_back(static_cast<double>(*whole));
      }
      return Value(pair);
    }
    case Type::wholes: {
      if (node.kind != Node::Kind::sequence) return std::nullopt;
      std::vector<std::int64_t> numbers;
      for (const Node& item : node.items) {
        const std::optional<std::int64_t> whole = is_number(item) ? to_whole(item.text) : std::nullopt;
        if (!whole || *whole < 0) return std::nullopt;
        numbers.push_back(*whole);
      }
      return Value(numbers);
    }
    case Type::words: {
      if (node.kind != Node::Kind::sequence) return std::nullopt;
      Field word = field;
      word.type = Type::text;
      std::vector<std::string> words;
      for (const Node& item : node.items) {
        const std::optional<Value> value = value_of(word, item);
        if (!value || !std::holds_alternative<std::string>(*value)) return std::nullopt;
        words.push_back(std::get<std::string>(*value));
      }
      return Value(words);
    }
    case Type::section:
    case Type::list:
      break;
  }
  return std::nullopt;
}

class Binder {
 public:
  Binder(Reading& reading, Issues& issues) : reading_(reading), issues_(issues) {}

  /// `table`: the section's path in the table ("data.train[]"), `shown`: in this recipe ("data.train[0]").
  void section(const Node& node, const std::string& table, const std::string& shown, std::size_t index) {
    const std::string dot = table.empty() ? "" : ".";
    for (const auto& [key, value] : node.entries) {
      const Field* field = find_field(table + dot + key.name);
      const std::string path = shown + dot + key.name;
      const Families family = reading_.family;
      if (!field || (family != 0 && !(field->families & family))) {
        report_unknown(key, table, family, issues_);
        continue;
      }
      reading_.places[path] = field->type == Type::section || field->type == Type::list ? key.place : value.place;
      if (!read(*field, value, path, index)) reading_.bad.insert(path);
    }
    require(node, table, shown);
  }

 private:
  bool read(const Field& field, const Node& node, const std::string& path, std::size_t index) {
    if (node.kind == Node::Kind::broken) return false;
    if (field.type == Type::list && node.kind == Node::Kind::sequence) return list(field, node, path);
    const bool is_section = field.type == Type::section || (field.type == Type::list && !children(field.path).empty());
    if (is_section && node.kind == Node::Kind::map) {
      if (field.set) field.set(reading_.recipe, index, true);
      section(node, field.path, path, index);
      return true;
    }
    const std::optional<Value> value = value_of(field, node);
    const bool built = value && is_built(field, *value);
    if (!built) {
      const bool one_built = field.choices.size() == 1 && value;
      issues_.add(node.place, fmt::format("found {} as `{}`", describe(node), path), expectation(field),
                  one_built ? "Other values are not built" : hint(field, node));
      return false;
    }
    if (std::holds_alternative<std::monostate>(*value)) reading_.places.erase(path);
    if (field.set) field.set(reading_.recipe, index, *value);
    return true;
  }

  static bool is_built(const Field& field, const Value& value) {
    if (field.choices.empty() || std::holds_alternative<std::monostate>(value)) return true;
    const auto is_choice = [&](const std::string& word) {
      return std::find(field.choices.begin(), field.choices.end(), word) != field.choices.end();
    };
    if (const auto* words = std::get_if<std::vector<std::string>>(&value))
      return std::all_of(words->begin(), words->end(), is_choice);
    const std::string* text = std::get_if<std::string>(&value);
    return is_choice(text ? *text : value_text(value));
  }

  static std::string hint(const Field& field, const Node& node) {
    if (field.type == Type::words) {
      for (const Node& item : node.items) {
        const std::string close = item.kind == Node::Kind::scalar ? closest(item.text, field.choices) : "";
        if (!close.empty() && close != item.text) return fmt::format("Did you mean `{}`?", close);
      }
    }
    if (node.kind != Node::Kind::scalar) return {};
    if ((field.type == Type::text || field.type == Type::choice) && !field.choices.empty()) {
      const std::string close = closest(node.text, field.choices);
      return close.empty() ? "" : fmt::format("Did you mean `{}`?", close);
    }
    if (field.type == Type::text && !node.quoted && !node.text.empty() && shape_of(node.text) != Shape::text) {
      return fmt::format("Text that looks like a number or a word of YAML needs quotes: \"{}\"",
                         recipe::shown(node.text));
    }
    return {};
  }

  bool list(const Field& field, const Node& node, const std::string& path) {
    Recipe& r = reading_.recipe;
    std::vector<DataSource>& sources = field.path == "data.train"        ? r.data.train
                                       : field.path == "data.validation" ? r.data.validation
                                                                         : r.distill.harvest.prompts;
    if (node.items.empty()) {
      issues_.add(node.place, fmt::format("found an empty list as `{}`", path), expectation(field));
      return false;
    }
    sources.resize(node.items.size());
    for (std::size_t i = 0; i < node.items.size(); ++i) {
      const std::string element = fmt::format("{}[{}]", path, i);
      const Node& item = node.items[i];
      reading_.places[element] = item.place;
      if (item.kind == Node::Kind::map) {
        section(item, field.path + "[]", element, i);
      } else {
        reading_.bad.insert(element + ".name");
        if (item.kind != Node::Kind::broken) {
          issues_.add(item.place, fmt::format("found {} in `{}`", describe(item), field.path),
                      "expected a source (`- {name: ...}`)");
        }
      }
    }
    return true;
  }

  /// Keys of a section that must be given, and are not.
  void require(const Node& node, const std::string& table, const std::string& shown) {
    const std::string dot = table.empty() ? "" : ".";
    for (const Field* field : children(table)) {
      const std::string path = shown + dot + std::string(field->leaf());
      bool needed = (field->required & reading_.family) != 0 || (field->required == kAll && table != "model");
      if (field->path == "model.model_type") needed = true;
      // A section is missed where one of its own keys is.
      if (field->type == Type::section && table.empty())
        needed = field->path == "run" || field->path == "model" || field->path == "data";
      if (!needed || node.find(field->leaf())) continue;
      reading_.bad.insert(path);
      const std::string where = table.empty() ? "" : fmt::format(" in `{}`", shown);
      issues_.add(reading_.place(path), fmt::format("found no `{}`{}", field->leaf(), where), expectation(*field),
                  field->meaning);
    }
  }

  Reading& reading_;
  Issues& issues_;
};

}  // namespace

Place Reading::place(const std::string& path) const {
  std::string at = path;
  while (!at.empty()) {
    if (const auto found = places.find(at); found != places.end()) return found->second;
    const std::size_t cut = at.find_last_of(".[");
    at = cut == std::string::npos ? "" : at.substr(0, cut);
  }
  return {0, 1, 1};
}

bool Reading::good(const std::string& path) const {
  for (std::size_t end = path.size(); end != std::string::npos && end > 0; end = path.find_last_of(".[", end - 1)) {
    if (bad.contains(path.substr(0, end))) return false;
  }
  return true;
}

Reading bind_tree(const Node& root, Issues& issues) {
  Reading reading;
  if (const Node* model = root.find("model")) {
    const Node* type = model->find("model_type");
    if (type && type->kind == Node::Kind::scalar) reading.family = family_of(type->text);
  }
  Binder(reading, issues).section(root, "", "", 0);
  return reading;
}

}  // namespace fourmi::recipe
