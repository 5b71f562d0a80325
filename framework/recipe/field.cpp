#include "framework/recipe/field.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "framework/recipe/scalar.h"

namespace fourmi::recipe {
namespace {

constexpr std::pair<std::string_view, Families> kFamilyNames[] = {
    {"deepseek_v2", kV2}, {"deepseek_v3", kV3},     {"kimi_k2", kV3},  {"qwen2", kQwen2},
    {"qwen3", kQwen3},    {"qwen3_moe", kQwen3Moe}, {"llama", kLlama}, {"mixtral", kMixtral}};

/// The table with its indices, built once.
struct Table {
  std::vector<Field> rows;
  std::unordered_map<std::string_view, const Field*> by_path;
  std::unordered_map<std::string_view, std::vector<const Field*>> by_parent, by_leaf, by_foreign;

  Table() {
    std::vector<Field> all;
    add_run_fields(all);
    add_memory_fields(all);
    add_model_fields(all);
    add_data_fields(all);
    add_training_fields(all);
    add_export_fields(all);
    add_ledger_fields(all);
    add_guard_fields(all);
    add_distill_fields(all);
    add_harvest_fields(all);
    // Sections in the order in which recipes are usually written; keys as their file lists them.
    for (std::string_view section :
         {"run", "model", "loss", "data", "precision", "parallel", "memory", "optimizer", "schedule", "evaluation",
          "checkpoint", "export", "distill", "guard", "ledger", "budget", "logging"}) {
      for (Field& field : all) {
        if (field.path == section || field.path.starts_with(std::string(section) + "."))
          rows.push_back(std::move(field));
      }
    }
    for (const Field& field : rows) {
      by_path.emplace(field.path, &field);
      by_parent[field.parent()].push_back(&field);
      by_leaf[field.leaf()].push_back(&field);
      for (const std::string& name : field.foreign) by_foreign[name].push_back(&field);
    }
  }
};

const Table& table() {
  static const Table built;
  return built;
}

using Rows = std::vector<const Field*>;
const Rows& lookup(const std::unordered_map<std::string_view, Rows>& index, std::string_view name) {
  static const Rows nothing;
  const auto found = index.find(name);
  return found == index.end() ? nothing : found->second;
}

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "`" : ", `") + name + "`";
  return out;
}

std::string range_text(const Field& field) {
  const bool low = std::isfinite(field.least), high = std::isfinite(field.most);
  const auto plain = [](double bound) {
    if (bound >= 9.2e18) return std::string("9223372036854775807");
    return bound == std::floor(bound) ? fmt::format("{:.0f}", bound) : number_text(bound);
  };
  const std::string least = low ? plain(field.least) : "", most = high ? plain(field.most) : "";
  if (low && field.above_least) {
    return fmt::format(" above {}{}", least, high ? " and at most " + most : "");
  }
  if (low && high) return fmt::format(" from {} to {}", least, most);
  return low ? fmt::format(" of at least {}", least) : "";
}

/// A value as YAML.
struct Writer {
  std::string operator()(std::monostate) const { return "null"; }
  std::string operator()(bool flag) const { return flag ? "true" : "false"; }
  std::string operator()(std::int64_t whole) const { return fmt::format("{}", whole); }
  std::string operator()(double number) const { return number_text(number); }
  std::string operator()(const std::string& text) const { return quoted_if_needed(text); }
  std::string operator()(Seconds seconds) const { return seconds_text(seconds.value); }
  std::string operator()(const Stepped& stepped) const {
    if (stepped.steps.empty()) return "0";
    if (stepped.steps.size() == 1) return number_text(stepped.steps.front().second);
    std::string out;
    for (const auto& [tokens, number] : stepped.steps) {
      out += fmt::format("{}[{}, {}]", out.empty() ? "" : ", ", number_text(tokens), number_text(number));
    }
    return "[" + out + "]";
  }
  std::string operator()(const std::vector<double>& numbers) const { return list(numbers); }
  std::string operator()(const std::vector<std::int64_t>& numbers) const { return list(numbers); }
  std::string operator()(const std::vector<std::string>& words) const { return list(words); }

  template <class T>
  std::string list(const std::vector<T>& items) const {
    std::string out;
    for (const T& item : items) out += (out.empty() ? "" : ", ") + (*this)(item);
    return "[" + out + "]";
  }
};

}  // namespace

Families family_of(std::string_view model_type) {
  for (const auto& [name, family] : kFamilyNames) {
    if (name == model_type) return family;
  }
  return 0;
}

const std::vector<std::string>& model_types() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& [name, family] : kFamilyNames) all.emplace_back(name);
    return all;
  }();
  return names;
}

std::string families_text(Families families) {
  std::string out;
  for (const auto& [name, family] : kFamilyNames) {
    if (families & family) out += (out.empty() ? "" : ", ") + std::string(name);
  }
  return out;
}

std::string_view Field::parent() const {
  const std::size_t dot = path.rfind('.');
  return dot == std::string::npos ? std::string_view() : std::string_view(path).substr(0, dot);
}

std::string_view Field::leaf() const {
  const std::size_t dot = path.rfind('.');
  return dot == std::string::npos ? std::string_view(path) : std::string_view(path).substr(dot + 1);
}

const std::vector<Field>& fields() {
  return table().rows;
}
const Field* find_field(std::string_view path) {
  const auto found = table().by_path.find(path);
  return found == table().by_path.end() ? nullptr : found->second;
}
const std::vector<const Field*>& children(std::string_view parent) {
  return lookup(table().by_parent, parent);
}
const std::vector<const Field*>& fields_named(std::string_view leaf) {
  return lookup(table().by_leaf, leaf);
}
const std::vector<const Field*>& find_foreign(std::string_view name) {
  return lookup(table().by_foreign, name);
}

std::string closest(std::string_view name, const std::vector<std::string>& names) {
  if (name.size() > 64) return {};
  std::string best;
  std::size_t least = std::max<std::size_t>(1, name.size() / 3) + 1;
  for (const std::string& candidate : names) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

std::string expectation(const Field& field) {
  if (field.type == Type::words)
    return "expected a list of " + (field.choices.empty() ? std::string("texts") : joined(field.choices));
  if (field.type != Type::choice && field.choices.size() == 1) return "expected " + field.choices.front();
  if (!field.choices.empty()) return "expected one of " + joined(field.choices);
  switch (field.type) {
    case Type::boolean:
      return "expected true or false";
    case Type::whole:
      return "expected a whole number" + range_text(field);
    case Type::number:
      return "expected a number" + range_text(field);
    case Type::text:
    case Type::choice:
      return "expected text";
    case Type::duration:
      return "expected a duration with its unit, such as 90s, 30m, 12h or 2d";
    case Type::steps_or_duration:
      return "expected a whole number of steps of at least 0, or a duration such as 30m";
    case Type::stepped:
      return fmt::format("expected a {}number{}, or steps over tokens such as {}", field.whole_values ? "whole " : "",
                         range_text(field), field.whole_values ? "[[0, 256], [10e9, 512]]" : "[[0, 0.3], [10e9, 0.1]]");
    case Type::betas:
      return "expected two numbers from 0 to below 1, such as [0.9, 0.95]";
    case Type::first_last:
      return "expected the first and the last, such as [10, 12], or []";
    case Type::wholes:
      return "expected a list of whole numbers of at least 0, such as [0, 3]";
    case Type::words:
      return "expected a list of texts";
    case Type::section:
      return "expected a section (`key: value` lines)";
    case Type::list:
      return field.path == "data.validation" ? "expected a list of sources, or {holdout: share}"
                                             : "expected a list of sources (`- {name: ...}`)";
  }
  return {};
}

std::string value_text(const Value& value) {
  return std::visit(Writer(), value);
}

std::string default_text(const Field& field) {
  if (!field.default_text.empty()) return field.default_text;
  if (field.required) return "required";
  if (!field.get) return "";
  Recipe defaults;
  defaults.data.train.resize(1);
  defaults.data.validation.resize(1);
  defaults.distill.harvest.prompts.resize(1);
  defaults.model.rope_scaling.emplace();
  const Value value = field.get(defaults, 0);
  return std::holds_alternative<std::monostate>(value) ? "none" : value_text(value);
}

std::string_view class_text(KeyClass key_class) {
  switch (key_class) {
    case KeyClass::free:
      return "free";
    case KeyClass::asked:
      return "asked";
    case KeyClass::fixed:
      return "fixed";
  }
  return {};
}

}  // namespace fourmi::recipe
