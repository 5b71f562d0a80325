#include "framework/interop/gguf/llama.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "kernels/runtime/error.h"

namespace fourmi::interop {
namespace {

struct Sizes {
  std::int64_t layers, hidden, heads, key_value_heads, head_dim, experts;
};

std::int64_t positive(const GgufHeader& header, const std::string& key, std::int64_t otherwise = 0) {
  const auto value = otherwise > 0 ? header.get_or<std::int64_t>(key, otherwise) : header.get<std::int64_t>(key);
  if (value < 1 || value > INT32_MAX)
    throw Error(ExitStatus::input, fmt::format("{}: key {}", header.place, key),
                fmt::format("{}, a number from 1 to {} was expected", value, INT32_MAX));
  return value;
}

Sizes sizes_of(const GgufHeader& header) {
  const auto& architecture = header.get<std::string>("general.architecture");
  if (architecture != "llama")
    throw Error(ExitStatus::input, header.place + ": key general.architecture",
                fmt::format("{}, llama was expected: GGUF files of other families are not read", architecture),
                "Import the model's safetensors folder");
  Sizes s{};
  s.layers = positive(header, "llama.block_count");
  s.hidden = positive(header, "llama.embedding_length");
  s.heads = positive(header, "llama.attention.head_count");
  s.key_value_heads = positive(header, "llama.attention.head_count_kv", s.heads);
  s.head_dim = positive(header, "llama.attention.key_length", std::max<std::int64_t>(1, s.hidden / s.heads));
  s.experts = header.get_or<std::int64_t>("llama.expert_count", 0);
  const auto same = [&](const char* key, std::int64_t expected) {
    if (const auto value = header.get_or<std::int64_t>(key, expected); value != expected)
      throw Error(ExitStatus::input, fmt::format("{}: key {}", header.place, key),
                  fmt::format("{}, {} (the length of a head) was expected", value, expected));
  };
  same("llama.attention.value_length", s.head_dim);
  same("llama.rope.dimension_count", s.head_dim);
  if (s.head_dim % 2 != 0 || s.heads % s.key_value_heads != 0)
    throw Error(ExitStatus::input, header.place,
                fmt::format("{} heads of length {} with {} of keys, an even length and a divisor were expected",
                            s.heads, s.head_dim, s.key_value_heads));
  return s;
}

struct Name {
  std::string_view stored, ours;
};
constexpr Name outside[] = {{"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};
constexpr Name inside[] = {{"attn_norm", "input_layernorm"}, {"ffn_norm", "post_attention_layernorm"},
                           {"attn_q", "self_attn.q_proj"},   {"attn_k", "self_attn.k_proj"},
                           {"attn_v", "self_attn.v_proj"},   {"attn_output", "self_attn.o_proj"},
                           {"ffn_gate", "mlp.gate_proj"},    {"ffn_up", "mlp.up_proj"},
                           {"ffn_down", "mlp.down_proj"},    {"ffn_gate_inp", "block_sparse_moe.gate"}};
constexpr Name of_experts[] = {{"ffn_gate_exps", "w1"}, {"ffn_down_exps", "w2"}, {"ffn_up_exps", "w3"}};

std::optional<std::string_view> find(std::span<const Name> names, std::string_view stored) {
  for (const Name& name : names)
    if (name.stored == stored) return name.ours;
  return std::nullopt;
}

class Mapper {
 public:
  explicit Mapper(const GgufHeader& header) : header_(header), sizes_(sizes_of(header)) {}

  std::vector<LlamaTensor> run() {
    for (const GgufTensor& tensor : header_.tensors)
      if (!add(tensor)) unknown_ += (unknown_.empty() ? "" : ", ") + tensor.name;
    std::sort(found_.begin(), found_.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    look_for_missing();
    if (!unknown_.empty() || !missing_.empty())
      throw Error(ExitStatus::input, header_.place,
                  fmt::format("tensors that no Llama of {} layers has: {}; missing: {}", sizes_.layers,
                              unknown_.empty() ? "none" : unknown_, missing_.empty() ? "none" : missing_),
                  unknown_.find("rope_freqs") == std::string::npos
                      ? ""
                      : "Import the model's safetensors folder: a file with rope_freqs does not say which scaling they "
                        "come from");
    return std::move(found_);
  }

 private:
  static std::optional<std::int64_t> number(std::string_view text) {
    std::int64_t value = -1;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool plain = failure == std::errc() && end == text.data() + text.size() && value >= 0;
    return plain && fmt::format("{}", value) == text ? std::optional(value) : std::nullopt;
  }

  bool add(const GgufTensor& tensor) {
    const std::string_view all = tensor.name;
    const std::size_t dot = all.rfind('.');
    if (dot == std::string_view::npos) return false;
    std::string_view name = all.substr(0, dot);
    const std::string_view kind = all.substr(dot + 1);  // weight or bias
    if (kind != "weight" && kind != "bias") return false;
    LlamaTensor out{"", tensor.name, tensor.type, tensor.shape, tensor.begin, 0};
    if (const auto ours = find(outside, name)) {
      out.name = fmt::format("{}.{}", *ours, kind);
      return put(std::move(out));
    }
    if (!name.starts_with("blk.")) return false;
    name.remove_prefix(4);
    const std::size_t end = name.find('.');
    const auto layer = number(name.substr(0, std::min(end, name.size())));
    if (end == std::string_view::npos || !layer || *layer >= sizes_.layers) return false;
    name.remove_prefix(end + 1);
    if (const auto ours = find(of_experts, name)) return add_experts(tensor, *layer, *ours, kind);
    const auto ours = find(inside, name);
    if (!ours) return false;
    out.name = fmt::format("model.layers.{}.{}.{}", *layer, *ours, kind);
    if (name == "attn_q" || name == "attn_k") {
      const std::int64_t rows = (name == "attn_q" ? sizes_.heads : sizes_.key_value_heads) * sizes_.head_dim;
      if (out.rows() != rows)
        throw Error(ExitStatus::input, fmt::format("{}: tensor {}", header_.place, tensor.name),
                    fmt::format("{} rows, {} (heads of {}) were expected", out.rows(), rows, sizes_.head_dim));
      out.head_rows = sizes_.head_dim;
    }
    return put(std::move(out));
  }

  bool add_experts(const GgufTensor& tensor, std::int64_t layer, std::string_view ours, std::string_view kind) {
    if (tensor.shape.size() != 3 || tensor.shape[0] != sizes_.experts || kind != "weight") return false;
    for (std::int64_t e = 0; e < sizes_.experts; ++e)
      put({fmt::format("model.layers.{}.block_sparse_moe.experts.{}.{}.weight", layer, e, ours),
           tensor.name,
           tensor.type,
           {tensor.shape[1], tensor.shape[2]},
           tensor.begin + tensor.bytes / sizes_.experts * e,
           0});
    return true;
  }

  bool put(LlamaTensor tensor) {
    if (tensor.shape.size() > 2) return false;
    found_.push_back(std::move(tensor));
    return true;
  }

  void need(const std::string& name) {
    const bool there = std::binary_search(found_.begin(), found_.end(), LlamaTensor{name, "", {}, {}, 0, 0},
                                          [](const auto& a, const auto& b) { return a.name < b.name; });
    if (there) return;
    if (num_missing_ < most_missing) missing_ += (missing_.empty() ? "" : ", ") + name;
    if (num_missing_++ == most_missing) missing_ += " ...";
  }

  void look_for_missing() {
    need("model.embed_tokens.weight");
    need("model.norm.weight");
    for (std::int64_t l = 0; l < sizes_.layers; ++l)
      for (const Name& name : inside) {
        const bool mlp = name.ours.starts_with("mlp."), router = name.ours.starts_with("block_sparse_moe");
        if (sizes_.experts > 0 ? mlp : router) continue;
        if (num_missing_ > most_missing) return;  // a file may say any number of layers and experts
        need(fmt::format("model.layers.{}.{}.weight", l, name.ours));
        if (!router) continue;
        for (std::int64_t e = 0; e < sizes_.experts && num_missing_ <= most_missing; ++e)
          for (const Name& part : of_experts)
            need(fmt::format("model.layers.{}.block_sparse_moe.experts.{}.{}.weight", l, e, part.ours));
      }
  }

  static constexpr int most_missing = 20;  // that are named

  const GgufHeader& header_;
  Sizes sizes_;
  std::vector<LlamaTensor> found_;
  std::string unknown_, missing_;
  int num_missing_ = 0;
};

}  // namespace

std::int64_t LlamaTensor::stored_row(std::int64_t row) const {
  if (head_rows == 0) return row;
  const std::int64_t half = head_rows / 2, in_head = row % head_rows;
  return row - in_head + in_head % half * 2 + in_head / half;
}

std::vector<LlamaTensor> llama_tensors(const GgufHeader& header) {
  return Mapper(header).run();
}

std::string llama_config_json(const GgufHeader& header) {
  const Sizes s = sizes_of(header);
  if (const auto scaling = header.get_or<std::string>("llama.rope.scaling.type", "none"); scaling != "none")
    throw Error(ExitStatus::input, header.place + ": key llama.rope.scaling.type",
                fmt::format("{}, none was expected: scaled rotary embeddings are not read from GGUF files", scaling),
                "Import the model's safetensors folder");
  const GgufTensor* embedding = header.find("token_embd.weight");
  if (embedding == nullptr)
    throw Error(ExitStatus::input, header.place, "no tensor token_embd.weight, one was expected");
  nlohmann::ordered_json config;
  config["architectures"] = {s.experts > 0 ? "MixtralForCausalLM" : "LlamaForCausalLM"};
  config["model_type"] = s.experts > 0 ? "mixtral" : "llama";
  config["vocab_size"] = embedding->shape[0];
  config["hidden_size"] = s.hidden;
  config["intermediate_size"] = positive(header, "llama.feed_forward_length");
  config["num_hidden_layers"] = s.layers;
  config["num_attention_heads"] = s.heads;
  config["num_key_value_heads"] = s.key_value_heads;
  config["head_dim"] = s.head_dim;
  config["max_position_embeddings"] = positive(header, "llama.context_length");
  config["rms_norm_eps"] = header.get<double>("llama.attention.layer_norm_rms_epsilon");
  config["rope_theta"] = header.get_or<double>("llama.rope.freq_base", 10000.0);
  config["hidden_act"] = "silu";
  config["tie_word_embeddings"] = header.find("output.weight") == nullptr;
  if (s.experts > 0) {
    config["num_local_experts"] = s.experts;
    config["num_experts_per_tok"] = positive(header, "llama.expert_used_count");
  } else {
    config["attention_bias"] = header.find("blk.0.attn_q.bias") != nullptr;
    config["mlp_bias"] = header.find("blk.0.ffn_up.bias") != nullptr;
  }
  for (const auto& [ours, key] : {std::pair("bos_token_id", "tokenizer.ggml.bos_token_id"),
                                  std::pair("eos_token_id", "tokenizer.ggml.eos_token_id")})
    if (header.has(key)) config[ours] = header.get<std::int64_t>(key);
  return config.dump(2) + "\n";
}

}  // namespace fourmi::interop
