// What is asked: the texts of a column of JSON lines, each once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/recipe/recipe.h"

namespace fourmi::harvest {

struct Prompt {
  std::string text, source, id;  ///< id: "FILE:LINE" of its first place
  std::string reference;         ///< a JSON value as text; empty: none
  std::string license;
  std::string key;  ///< SHA-256 of the text: what the log knows it by
};

struct Prompts {
  std::vector<Prompt> all;  ///< in the order of sources, files and lines
  std::int64_t duplicates = 0;
};

/// Throws Error(input) naming file, line and column for a line that is no JSON object or lacks the column's text.
Prompts read_prompts(const std::vector<DataSource>& sources);

}  // namespace fourmi::harvest
