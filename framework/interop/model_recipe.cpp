#include "framework/interop/model_recipe.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "framework/checkpoint/disk.h"
#include "framework/interop/weight_map.h"
#include "framework/recipe/read.h"
#include "framework/tokenizer/json_depth.h"

namespace fourmi::interop {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::int64_t most_config_bytes = 16 << 20;

json read_config(const fs::path& config) {
  std::error_code ignored;
  if (!fs::exists(config, ignored))
    throw Error(ExitStatus::input, config.string(), "found no config.json, expected the model's beside its weights");
  const std::string text = read_text(real_disk(), behind_links(config), most_config_bytes);
  if (is_json_deeper(text))
    throw Error(
        ExitStatus::input, config.string(),
        fmt::format("found more than {} arrays and objects in each other, expected a config.json", most_json_depth));
  json root = json::parse(text, nullptr, false);
  if (!root.is_object()) throw Error(ExitStatus::input, config.string(), "found what is no JSON object, expected one");
  return root;
}

std::string run_name(const std::string& name) {
  std::string result;
  for (const char c : name) {
    const bool fits = std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
    result += fits ? c : '-';
  }
  const auto begins = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  return result.empty() || !begins(result.front()) ? "model-" + result : result;
}

}  // namespace

Recipe model_recipe(const fs::path& config, const ImportedAs& as) {
  const json root = read_config(config);
  const json positions = root.value("max_position_embeddings", json());
  const std::int64_t longest = positions.is_number_integer() ? positions.get<std::int64_t>() : most_tokens;
  json recipe;  // JSON is YAML
  recipe["run"] = {{"name", run_name(as.name)}, {"steps", 1}};
  recipe["model"] = {{"config", fs::absolute(config).string()}};
  recipe["data"] = {{"tokenizer", as.tokenizer},
                    {"sequence_length", std::clamp<std::int64_t>(longest, 1, most_tokens)},
                    {"global_batch_size", 1},
                    {"train", json::array({{{"name", "none"}, {"format", "synthetic"}, {"license", "CC0-1.0"}}})}};
  recipe["precision"] = {{"compute", as.compute == Compute::fp32 ? "fp32" : "bf16"}};
  return parse_recipe(recipe.dump(), config.string());
}

bool has_fp8_blocks(const fs::path& config) {
  const json root = read_config(config);
  const auto at = root.find("quantization_config");
  if (at == root.end() || at->is_null()) return false;
  const json block = json::array({scale_block, scale_block});
  if (at->is_object() && at->value("quant_method", json()) == "fp8" &&
      at->value("weight_block_size", json()) == block && at->value("fmt", json("e4m3")) == "e4m3")
    return true;
  throw Error(ExitStatus::input, config.string(),
              fmt::format("found weights quantised as {}, expected none or quant_method fp8 of e4m3 with "
                          "weight_block_size [128, 128]",
                          at->dump(-1, ' ', false, json::error_handler_t::replace)),
              "Other ways to store weights are not built: take a copy of the model in bf16");
}

}  // namespace fourmi::interop
