// config.json of a model, from the field table of the recipe: the keys there are Hugging Face's.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "framework/interop/export_plan.h"
#include "framework/recipe/recipe.h"

namespace fourmi::interop {

/// "DeepseekV3ForCausalLM".
std::string architecture_name(const std::string& model_type);

struct SpecialTokens {
  std::optional<std::int64_t> begin, end;
  bool are_others = false;  ///< than those of the model that it began with: what that one's files say does not hold
};

/// `original`: the config.json that the model was imported with; where it says the same architecture its keys are kept,
/// and only how weights are stored changes. It is not read if it is absent.
std::string config_json(const Recipe& recipe, ExportType type, const std::filesystem::path& original,
                        const SpecialTokens& tokens);
std::string generation_config_json(const SpecialTokens& tokens);

}  // namespace fourmi::interop
