#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "framework/recipe/explain.h"
#include "framework/recipe/field.h"

namespace fourmi {
namespace recipe {
namespace {

using Json = nlohmann::ordered_json;

/// A bound as a JSON integer where it is one: editors show it.
Json bound(double value) {
  if (value >= 9.2e18) return std::numeric_limits<std::int64_t>::max();
  return value == std::floor(value) ? Json(static_cast<std::int64_t>(value)) : Json(value);
}

Json number_schema(const Field& field, const char* type) {
  Json json{{"type", type}};
  if (std::isfinite(field.least)) json[field.above_least ? "exclusiveMinimum" : "minimum"] = bound(field.least);
  if (std::isfinite(field.most)) json["maximum"] = bound(field.most);
  return json;
}

Json duration_schema() {
  return {{"type", "string"}, {"pattern", "^([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([eE][-+]?[0-9]+)?[smhd]$"}};
}

Json object_schema(const std::string& section);

Json shape_schema(const Field& field) {
  switch (field.type) {
    case Type::boolean:
      return {{"type", "boolean"}};
    case Type::whole:
      return number_schema(field, "integer");
    case Type::number:
      return number_schema(field, "number");
    case Type::text:
    case Type::choice:
      return {{"type", "string"}, {"minLength", 1}};
    case Type::duration:
      return duration_schema();
    case Type::steps_or_duration:
      return {{"anyOf", Json::array({number_schema(field, "integer"), duration_schema()})}};
    case Type::stepped: {
      const Json number = number_schema(field, field.whole_values ? "integer" : "number");
      const Json step{{"type", "array"},
                      {"items", Json::array({{{"type", "integer"}, {"minimum", 0}}, number})},
                      {"minItems", 2},
                      {"maxItems", 2}};
      return {{"anyOf", Json::array({number, {{"type", "array"}, {"items", step}, {"minItems", 1}}})}};
    }
    case Type::betas: {
      const Json item{{"type", "number"}, {"minimum", 0}, {"exclusiveMaximum", 1}};
      return {{"type", "array"}, {"items", item}, {"minItems", 2}, {"maxItems", 2}};
    }
    case Type::first_last: {
      const Json item{{"type", "integer"}, {"minimum", field.least}};
      const Json pair{{"type", "array"}, {"items", item}, {"minItems", 2}, {"maxItems", 2}};
      return {{"anyOf", Json::array({pair, {{"type", "array"}, {"maxItems", 0}}})}};
    }
    case Type::wholes:
      return {{"type", "array"}, {"items", {{"type", "integer"}, {"minimum", 0}}}};
    case Type::words: {
      const Json word =
          field.choices.empty() ? Json{{"type", "string"}, {"minLength", 1}} : Json{{"enum", field.choices}};
      return {{"type", "array"}, {"items", word}};
    }
    case Type::section:
      return object_schema(field.path);
    case Type::list: {
      const Json list{{"type", "array"}, {"items", object_schema(field.path + "[]")}, {"minItems", 1}};
      if (children(field.path).empty()) return list;
      return {{"anyOf", Json::array({list, object_schema(field.path)})}};
    }
  }
  return {};
}

/// The values of a row that has only some built: as YAML's type, not as text.
Json choices_schema(const Field& field) {
  Json values = Json::array();
  for (const std::string& choice : field.choices) {
    const bool text = field.type == Type::text || field.type == Type::choice;
    values.push_back(text ? Json(choice) : Json::parse(choice));
  }
  if (field.nullable) values.push_back(nullptr);
  return {{"enum", values}};
}

Json field_schema(const Field& field) {
  const bool shaped = field.choices.empty() || field.type == Type::words;
  Json json = shaped ? shape_schema(field) : choices_schema(field);
  if (shaped && field.nullable) json = {{"anyOf", Json::array({json, {{"type", "null"}}})}};
  std::string text = field.meaning;
  if (!field.unit.empty()) text += " Unit: " + field.unit + ".";
  if (field.type != Type::section && field.type != Type::list) {
    text += fmt::format(" Default: {}. Class: {}.", default_text(field), class_text(field.key_class));
  }
  if (field.families != kAll) text += " Only for " + families_text(field.families) + ".";
  json["description"] = text;
  return json;
}

Json object_schema(const std::string& section) {
  Json properties = Json::object();
  for (const Field* field : children(section)) properties[std::string(field->leaf())] = field_schema(*field);
  Json json{{"type", "object"}, {"properties", properties}, {"additionalProperties", false}};
  if (section.ends_with("[]")) json["required"] = Json::array({"name"});
  return json;
}

/// Keys of other families are refused once model_type is given.
Json family_rules() {
  Json rules = Json::array();
  for (const std::string& model_type : model_types()) {
    Json refused = Json::object();
    for (const Field* field : children("model")) {
      if (!(field->families & family_of(model_type))) refused[std::string(field->leaf())] = false;
    }
    const Json when{{"properties", {{"model_type", {{"const", model_type}}}}},
                    {"required", Json::array({"model_type"})}};
    rules.push_back({{"if", when}, {"then", {{"properties", refused}}}});
  }
  return rules;
}

/// What a recipe without a base must hold.
Json complete_rules() {
  Json sections = Json::object(), names = Json::array();
  for (const Field* section : children("")) {
    Json required = Json::array();
    for (const Field* field : children(section->path)) {
      if (field->required == kAll && section->path != "model") required.push_back(field->leaf());
    }
    if (section->path == "model") {  // whole in itself, or taken from somewhere
      names.push_back(section->path);
      for (const char* key : {"model_type", "config", "from"})
        sections[section->path]["anyOf"].push_back({{"required", Json::array({key})}});
      continue;
    }
    if (required.empty()) continue;
    names.push_back(section->path);
    sections[section->path] = {{"required", required}};
  }
  return {{"required", names}, {"properties", sections}};
}

}  // namespace
}  // namespace recipe

std::string recipe_schema() {
  using recipe::Json;
  Json schema;
  schema["$schema"] = "http://json-schema.org/draft-07/schema#";
  schema["title"] = "fourmi recipe";
  schema["description"] = "What a run of fourmi does. `fourmi validate` also checks what no schema can say.";
  const Json root = recipe::object_schema("");
  schema["type"] = "object";
  const Json file{{"type", "string"}, {"minLength", 1}};
  schema["properties"]["base"] = {{"anyOf", Json::array({file, {{"type", "array"}, {"items", file}}})},
                                  {"description", "Recipes to take over, relative to this file; the later ones win."}};
  for (const auto& [name, section] : root["properties"].items()) schema["properties"][name] = section;
  schema["properties"]["model"]["allOf"] = recipe::family_rules();
  schema["additionalProperties"] = false;
  schema["if"] = {{"not", {{"required", Json::array({"base"})}}}};
  schema["then"] = recipe::complete_rules();
  return schema.dump(2) + "\n";
}

}  // namespace fourmi
