#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "framework/interop/gguf/source.h"
#include "kernels/runtime/error.h"

namespace fourmi::interop {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* key_of_bos = "tokenizer.ggml.bos_token_id";
constexpr const char* key_of_eos = "tokenizer.ggml.eos_token_id";
constexpr const char* key_of_eot = "tokenizer.ggml.eot_token_id";
constexpr const char* key_of_unk = "tokenizer.ggml.unknown_token_id";
constexpr const char* key_of_pad = "tokenizer.ggml.padding_token_id";

/// As transformers writes it for a tokenizer.json that has no class of its own.
std::string tokenizer_config(const GgufModel& model) {
  const GgufHeader& h = model.header();
  const auto& tokens = h.get<std::vector<std::string>>("tokenizer.ggml.tokens");
  Json config;
  for (const auto& [name, key] : {std::pair("bos_token", key_of_bos), std::pair("eos_token", key_of_eos),
                                  std::pair("unk_token", key_of_unk), std::pair("pad_token", key_of_pad)}) {
    if (!h.has(key)) continue;
    const auto id = h.get<std::int64_t>(key);
    if (id < 0 || id >= static_cast<std::int64_t>(tokens.size()))
      throw Error(ExitStatus::input, fmt::format("{}: key {}", h.place, key),
                  fmt::format("{}, an id below {} was expected", id, tokens.size()));
    config[name] = tokens[static_cast<std::size_t>(id)];
  }
  if (!model.chat_template().empty()) config["chat_template"] = model.chat_template();
  config["clean_up_tokenization_spaces"] = false;
  if (h.has("llama.context_length")) config["model_max_length"] = h.get<std::int64_t>("llama.context_length");
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  return config.dump(2) + "\n";
}

/// Where the file says a text ends, and how its makers sample (llama.cpp's general.sampling keys); empty if nothing.
std::string generation_config(const GgufHeader& h) {
  Json config;
  if (h.has(key_of_bos)) config["bos_token_id"] = h.get<std::int64_t>(key_of_bos);
  Json ends = Json::array();
  for (const char* key : {key_of_eos, key_of_eot})
    if (h.has(key) && std::find(ends.begin(), ends.end(), h.get<std::int64_t>(key)) == ends.end())
      ends.push_back(h.get<std::int64_t>(key));
  if (!ends.empty()) config["eos_token_id"] = ends.size() == 1 ? ends[0] : ends;
  if (h.has(key_of_pad)) config["pad_token_id"] = h.get<std::int64_t>(key_of_pad);
  if (h.has("general.sampling.temp")) config["temperature"] = h.get<double>("general.sampling.temp");
  if (h.has("general.sampling.top_k")) config["top_k"] = h.get<std::int64_t>("general.sampling.top_k");
  if (h.has("general.sampling.top_p")) config["top_p"] = h.get<double>("general.sampling.top_p");
  return config.is_null() ? "" : config.dump(2) + "\n";
}

}  // namespace

std::map<std::string, std::string> gguf_companions(const GgufModel& model, std::vector<std::string>& warnings) {
  std::map<std::string, std::string> files{{"config.json", model.config_json()}};
  if (std::string text = generation_config(model.header()); !text.empty())
    files["generation_config.json"] = std::move(text);
  if (!model.chat_template().empty()) files["chat_template.jinja"] = model.chat_template();
  if (!model.header().has("tokenizer.ggml.model")) return files;
  try {
    std::string tokenizer = model.tokenizer_json();
    files["tokenizer_config.json"] = tokenizer_config(model);
    files["tokenizer.json"] = std::move(tokenizer);
  } catch (const Error& e) {
    warnings.push_back(fmt::format("the tokenizer is not taken over, text is taken as bytes: {}", e.what()));
  }
  return files;
}

}  // namespace fourmi::interop
