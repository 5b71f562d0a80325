// What a recipe holds, row by row of the field table; what is written and what is compared.
#pragma once

#include <string>
#include <vector>

#include "framework/recipe/field.h"

namespace fourmi::recipe {

/// The value of a row as YAML; empty where the recipe has none, and for model.config, whose keys are held one by one.
std::string text_of(const Field& field, const Recipe& recipe, std::size_t index);

/// Rows directly under a section that are valid for the recipe's model_type.
std::vector<const Field*> rows(std::string_view section, const Recipe& recipe);

/// The elements of data.train, data.validation or distill.harvest.prompts.
const std::vector<DataSource>& sources(const Field& list, const Recipe& recipe);

/// A section that may be null, and is.
bool is_absent_section(const Field& field, const Recipe& recipe);

}  // namespace fourmi::recipe
