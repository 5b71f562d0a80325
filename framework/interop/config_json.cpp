#include "framework/interop/config_json.h"

#include <nlohmann/json.hpp>

#include "framework/checkpoint/disk.h"
#include "framework/interop/model_recipe.h"
#include "framework/interop/weight_map.h"
#include "framework/recipe/field.h"

namespace fourmi::interop {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

ordered_json to_json(const recipe::Value& value) {
  return std::visit(
      [](const auto& v) -> ordered_json {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::monostate> || std::is_same_v<T, recipe::Seconds> ||
                      std::is_same_v<T, Stepped>)
          return nullptr;
        else
          return v;
      },
      value);
}

/// A key with one value, which has no storage: "false", "0", "silu".
ordered_json only_value(const recipe::Field& field) {
  const std::string& text = field.choices.front();
  if (field.type == recipe::Type::text) return text;
  return ordered_json::parse(field.type == recipe::Type::number ? text + ".0" : text);
}

void add_keys(const Recipe& recipe, recipe::Families family, const std::string& parent, ordered_json& to) {
  for (const recipe::Field* f : recipe::children(parent)) {
    const std::string leaf(f->leaf());
    if (!(f->families & family) || f->path == "model.from" || f->path == "model.config") continue;
    if (f->type == recipe::Type::section) {
      to[leaf] = nullptr;
      if (std::holds_alternative<std::monostate>(f->get(recipe, 0))) continue;
      ordered_json part;
      add_keys(recipe, family, f->path, part);
      for (const auto& [name, value] : part.items())
        if (!value.is_null()) to[leaf][name] = value;
      to[leaf]["rope_type"] = part["type"];
    } else if (!f->get) {
      if (!f->choices.empty()) to[leaf] = only_value(*f);
    } else {
      to[leaf] = to_json(f->get(recipe, 0));
    }
  }
}

/// What a null says that fourmi holds as 0 or as an empty list.
void name_what_is_absent(ordered_json& config) {
  for (const char* key : {"q_lora_rank", "sliding_window"})
    if (config.contains(key) && config[key] == 0) config[key] = nullptr;
  if (config.contains("layer_types") && config["layer_types"].empty()) config.erase("layer_types");
  config.erase("rope_interleave");  // a note of transformers' own: the released files have none
  if (config.contains("rope_scaling") && config["rope_scaling"].is_object()) {
    ordered_json& rope = config["rope_scaling"];
    const bool yarn = rope["type"] == "yarn";
    for (const char* key : {"beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"})
      if (!yarn) rope.erase(key);
    if (!yarn) rope.erase("type");  // the older word, which releases with YaRN have
  }
}

ordered_json new_config(const Recipe& recipe) {
  ordered_json config;
  config["architectures"] = {architecture_name(recipe.model.model_type)};
  add_keys(recipe, recipe::family_of(recipe.model.model_type), "model", config);
  name_what_is_absent(config);
  config["use_cache"] = true;
  return config;
}

/// The original's JSON if it is of this architecture.
std::optional<ordered_json> kept_config(const Recipe& recipe, const fs::path& original) {
  std::error_code ignored;
  if (original.empty() || !fs::exists(original, ignored)) return std::nullopt;
  ModelSection theirs = model_recipe(original, {.name = "original"}).model, ours = recipe.model;
  for (ModelSection* m : {&theirs, &ours}) m->config.clear(), m->from.clear();
  if (!(theirs == ours)) return std::nullopt;
  ordered_json config = ordered_json::parse(read_text(real_disk(), original, 16 << 20), nullptr, false);
  return config.is_object() ? std::optional(config) : std::nullopt;
}

}  // namespace

std::string architecture_name(const std::string& model_type) {
  constexpr std::pair<std::string_view, std::string_view> names[] = {{"deepseek_v2", "DeepseekV2ForCausalLM"},
                                                                     {"deepseek_v3", "DeepseekV3ForCausalLM"},
                                                                     {"kimi_k2", "DeepseekV3ForCausalLM"},
                                                                     {"qwen2", "Qwen2ForCausalLM"},
                                                                     {"qwen3", "Qwen3ForCausalLM"},
                                                                     {"qwen3_moe", "Qwen3MoeForCausalLM"},
                                                                     {"llama", "LlamaForCausalLM"},
                                                                     {"mixtral", "MixtralForCausalLM"}};
  for (const auto& [type, name] : names)
    if (type == model_type) return std::string(name);
  FOURMI_CHECK(false, "no architecture's name for {}", model_type);
  return {};
}

std::string config_json(const Recipe& recipe, ExportType type, const fs::path& original, const SpecialTokens& tokens) {
  const std::optional<ordered_json> kept = kept_config(recipe, original);
  ordered_json config = kept ? *kept : new_config(recipe);
  const auto set_token = [&](const char* key, const std::optional<std::int64_t>& id) {
    if (!kept || tokens.are_others) config[key] = nullptr;  // left out, the default of transformers' class would hold
    if (id && (!config.contains(key) || config[key].is_null())) config[key] = *id;
  };
  set_token("bos_token_id", tokens.begin);
  set_token("eos_token_id", tokens.end);
  const char* key = config.contains("dtype") ? "dtype" : "torch_dtype";
  config[key] = type == ExportType::fp32 ? "float32" : "bfloat16";
  if (type != ExportType::fp8_block) {
    config.erase("quantization_config");
  } else if (!config.contains("quantization_config")) {
    config["quantization_config"] = {{"activation_scheme", "dynamic"},
                                     {"fmt", "e4m3"},
                                     {"quant_method", "fp8"},
                                     {"weight_block_size", {scale_block, scale_block}}};
  }
  return config.dump(2) + "\n";
}

std::string generation_config_json(const SpecialTokens& tokens) {
  ordered_json config;
  config["_from_model_config"] = true;
  if (tokens.begin) config["bos_token_id"] = *tokens.begin;
  if (tokens.end) config["eos_token_id"] = *tokens.end;
  return config.dump(2) + "\n";
}

}  // namespace fourmi::interop
