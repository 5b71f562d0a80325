// Keys of a line by other names than the usual ones (recipe: data.train[].columns), and back again for messages.
#pragma once

#include <string>

#include "framework/chat/jinja/value.h"
#include "framework/chat/json_place.h"
#include "framework/recipe/recipe.h"

namespace fourmi {

/// What a key is called.
inline std::string called(const std::string& name, const char* usual) {
  return name.empty() ? usual : name;
}

/// Whether a key of a line holds what is read: of a pair, or of a line that is one exchange.
bool holds_text(const ColumnNames& columns, bool pair, const std::string& key);

/// The message's role or content that would not be read, since another key is; empty: none.
std::string hidden_key(const jinja::Dict& message, const ColumnNames& columns);

/// A message whose role and content have their usual names. Where columns.role is given, the roles that ShareGPT's data
/// have are known too: human is user, gpt is assistant.
jinja::Value with_usual_names(const jinja::Value& message, const ColumnNames& columns);

/// A path with usual names as it is in the line.
JsonPath as_written(JsonPath path, const ColumnNames& columns);

}  // namespace fourmi
