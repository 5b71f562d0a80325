// What a key means, in words, as JSON, and as the page docs/recipe.md.
#pragma once

#include <string>

namespace fourmi {

/// Meaning, type, unit, default and class of a key: a full path ("optimizer.learning_rate"), a section ("optimizer"), a
/// last name ("every": all keys of that name) or a name that other stacks use ("per_device_train_batch_size"). Throws
/// Error(usage) with a suggestion where there is none.
std::string explain_key(const std::string& key);

/// The same as one JSON object: {"key": ..., "keys": [{...}]}.
std::string explain_key_json(const std::string& key);

/// The whole table as the Markdown page docs/recipe.md.
std::string recipe_page();

/// JSON Schema (draft 7, which editors know) of a recipe: docs/recipe.schema.json.
std::string recipe_schema();

}  // namespace fourmi
