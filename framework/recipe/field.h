// One key of the recipe: a row of the field table, from which parser, defaults, checks, JSON Schema, `explain` and docs
// come.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "framework/recipe/key_class.h"
#include "framework/recipe/recipe.h"

namespace fourmi::recipe {

enum class Type {
  boolean,
  whole,  ///< whole number, may be written 100e9
  number,
  text,
  choice,             ///< one of `choices`
  duration,           ///< 30m
  steps_or_duration,  ///< 200 or 30m
  stepped,            ///< number, or [[tokens, number], ...]
  betas,              ///< [number, number]
  first_last,         ///< [whole, whole], ascending; or []
  wholes,             ///< [0, 3]: a list of whole numbers
  words,              ///< [text, ...], each one of `choices` where there are some
  section,            ///< a map of further keys
  list,               ///< a list of maps
};

/// Families of models (bit set): which keys are valid depends on model.model_type.
using Families = unsigned;
inline constexpr Families kV2 = 1, kV3 = 2, kQwen2 = 4, kQwen3 = 8, kQwen3Moe = 16, kLlama = 32, kMixtral = 64;
inline constexpr Families kDeepseek = kV2 | kV3, kQwens = kQwen2 | kQwen3 | kQwen3Moe;
inline constexpr Families kGrouped = kQwens | kLlama | kMixtral;  ///< grouped-query attention
inline constexpr Families kExperts = kDeepseek | kQwen3Moe | kMixtral;
inline constexpr Families kAll = kDeepseek | kGrouped;
Families family_of(std::string_view model_type);  ///< 0: not a known one
const std::vector<std::string>& model_types();    ///< all that are known

struct Seconds {
  double value = 0;
  bool operator==(const Seconds&) const = default;
};

/// A value as it stands in the recipe. monostate: not given (YAML null).
using Value = std::variant<std::monostate, bool, std::int64_t, double, std::string, Seconds, Stepped,
                           std::vector<double>, std::vector<std::int64_t>, std::vector<std::string>>;

struct Field {
  std::string path{};  ///< "optimizer.learning_rate"; elements of lists are "data.train[].weight"
  Type type = Type::text;
  std::string meaning{};
  std::string unit{};  ///< empty: none
  KeyClass key_class = KeyClass::asked;
  Families families = kAll;  ///< in which it is valid
  Families required = 0;     ///< in which it must be given
  bool nullable = false;     ///< null is the same as not given
  double least = -std::numeric_limits<double>::infinity(), most = std::numeric_limits<double>::infinity();
  bool above_least = false;            ///< `least` itself is refused
  bool whole_values = false;           ///< of a stepped: its values are whole numbers
  std::vector<std::string> choices{};  ///< of a choice; of other types: the only values that are built
  std::string default_text{};          ///< shown instead of the default of recipe.h, where that depends on other keys
  std::vector<std::string> foreign{};  ///< what other stacks call it
  std::string instead_of{};            ///< keys with the same word here replace one another when files are merged

  /// Access to the struct; the index is the element's of a list. Empty for sections, lists and keys without storage.
  std::function<Value(const Recipe&, std::size_t)> get{};
  std::function<void(Recipe&, std::size_t, const Value&)> set{};

  std::string_view parent() const;  ///< "optimizer"; empty for a section
  std::string_view leaf() const;    ///< "learning_rate"
};

/// All keys, in the order of the documentation.
const std::vector<Field>& fields();
const Field* find_field(std::string_view path);  ///< nullptr: no such key

/// Keys directly under `parent` ("" for the sections, "data.train[]" for a list's elements).
const std::vector<const Field*>& children(std::string_view parent);

/// Keys with this last name, anywhere ("every": evaluation.every, checkpoint.every, logging.every).
const std::vector<const Field*>& fields_named(std::string_view leaf);

/// Our keys for a name that other stacks use; empty: not known.
const std::vector<const Field*>& find_foreign(std::string_view name);

/// The known name that `name` most likely is a misspelling of, among `names`; empty: none is close.
std::string closest(std::string_view name, const std::vector<std::string>& names);

/// "a whole number of at least 1", "one of `fp32`, `bf16`": the expectation as messages, schema and docs say it.
std::string expectation(const Field& field);

/// A value as YAML; "null" for monostate.
std::string value_text(const Value& value);

/// What a recipe that does not give the key gets, for documentation: "required", "0.9", "none", ...
std::string default_text(const Field& field);

std::string_view class_text(KeyClass key_class);

/// "deepseek_v2, deepseek_v3, kimi_k2"; the values of model_type in which the key is valid.
std::string families_text(Families families);

// The rows, section by section (fields_*.cpp).
void add_run_fields(std::vector<Field>& table);
void add_dispatch_fields(std::vector<Field>& table);  ///< of parallel
void add_memory_fields(std::vector<Field>& table);
void add_model_fields(std::vector<Field>& table);
void add_data_fields(std::vector<Field>& table);
void add_training_fields(std::vector<Field>& table);
void add_export_fields(std::vector<Field>& table);
void add_ledger_fields(std::vector<Field>& table);
void add_guard_fields(std::vector<Field>& table);
void add_distill_fields(std::vector<Field>& table);
void add_teacher_layout_fields(std::vector<Field>& table);
void add_on_policy_fields(std::vector<Field>& table);  ///< of distill
void add_harvest_fields(std::vector<Field>& table);

}  // namespace fourmi::recipe
