// model.config: Hugging Face's config.json. Each of its keys is used, known not to matter, or refused.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "framework/recipe/reading.h"
#include "framework/recipe/scalar.h"

namespace fourmi::recipe {
namespace {

/// Keys that say nothing about the architecture: how the released weights are stored, how text is generated, which
/// special tokens its tokenizer has, what a call returns, and losses (which are keys of our section `loss`).
constexpr std::string_view kIgnored[] = {"_commit_hash",
                                         "_name_or_path",
                                         "architectures",
                                         "auto_map",
                                         "aux_loss_alpha",
                                         "bos_token_id",
                                         "chunk_size_feed_forward",
                                         "dtype",
                                         "eos_token_id",
                                         "ep_size",
                                         "id2label",
                                         "label2id",
                                         "output_attentions",
                                         "output_hidden_states",
                                         "output_router_logits",
                                         "pad_token_id",
                                         "pretraining_tp",
                                         "problem_type",
                                         "quantization_config",
                                         "return_dict",
                                         "router_aux_loss_coef",
                                         "seq_aux",
                                         "torch_dtype",
                                         "transformers_version",
                                         "unk_token_id",
                                         "use_cache"};

/// Sizes that follow from others in DeepSeek's configurations, written by newer versions of transformers.
struct Derived {
  std::string_view key;
  std::string_view summands[2];
};
constexpr Derived kDerived[] = {{"head_dim", {"qk_rope_head_dim", ""}},
                                {"qk_head_dim", {"qk_nope_head_dim", "qk_rope_head_dim"}}};

std::int64_t whole_at(const Node& config, std::string_view name) {
  const Node* node = name.empty() ? nullptr : config.find(name);
  return node && node->kind == Node::Kind::scalar ? to_whole(node->text).value_or(0) : 0;
}

/// True where the key is one that follows from others; says so if it does not follow.
bool is_derived(const Node& config, const Key& key, const Node& value, Issues& issues) {
  for (const Derived& derived : kDerived) {
    if (derived.key != key.name) continue;
    const std::int64_t expected = whole_at(config, derived.summands[0]) + whole_at(config, derived.summands[1]);
    if (value.kind != Node::Kind::scalar || to_whole(value.text) != expected) {
      issues.add(value.place, fmt::format("found {} as `{}`", describe(value), key.name),
                 fmt::format("expected {}, from `{}`{}", expected, derived.summands[0],
                             derived.summands[1].empty() ? "" : fmt::format(" and `{}`", derived.summands[1])));
    }
    return true;
  }
  return false;
}

/// transformers 5 writes one name for the number of experts of all families.
void unify_experts(Node& config, Families family) {
  if (family != kQwen3Moe || config.find("num_experts")) return;
  for (auto& [key, value] : config.entries) {
    if (key.name == "num_local_experts") key.name = "num_experts";
  }
}

/// Keys that say that a model is more than a decoder of text: only their absence is built.
constexpr std::string_view kOff[] = {"add_cross_attention", "is_encoder_decoder", "tie_encoder_decoder", "use_mrope"};

bool is_off(std::string_view name, const Node& value) {
  return std::find(std::begin(kOff), std::end(kOff), name) != std::end(kOff) && value.kind == Node::Kind::scalar &&
         value.text == "false";
}

Families family_in(const Node& map) {
  const Node* type = map.find("model_type");
  return type && type->kind == Node::Kind::scalar ? family_of(type->text) : 0;
}

}  // namespace

bool merge_config(Node& model, const std::string& text, int source, Issues& issues) {
  // JSON is read as the subset of YAML that it is, for the sake of places; that it is JSON is checked apart.
  try {
    nlohmann::json::parser_callback_t keep_nothing = [](int, nlohmann::json::parse_event_t, nlohmann::json&) {
      return false;
    };
    const nlohmann::json nothing = nlohmann::json::parse(text, keep_nothing);
  } catch (const nlohmann::json::parse_error& error) {
    const std::size_t end = std::min(error.byte > 0 ? error.byte - 1 : 0, text.size());
    const auto line = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(end), '\n');
    const std::size_t newline = end == 0 ? std::string::npos : text.rfind('\n', end - 1);
    const std::size_t column = newline == std::string::npos ? end : end - newline - 1;
    issues.add({source, static_cast<int>(line) + 1, static_cast<int>(column) + 1}, "found what is no JSON",
               "expected a config.json");
    return false;
  } catch (const nlohmann::json::out_of_range&) {
    issues.add({source, 1, 1}, "found a number too large for any program", "expected a config.json");
    return false;
  }
  Node config = parse_tree(text, source, issues);
  if (config.kind != Node::Kind::map) {
    issues.add({source, 1, 1}, "found " + describe(config), "expected a JSON object");
    return false;
  }
  const Families family = model.find("model_type") ? family_in(model) : family_in(config);
  unify_spelling(config);
  unify_experts(config, family);
  Node used = config;
  used.entries.clear();
  for (auto& [key, value] : config.entries) {
    if (std::find(std::begin(kIgnored), std::end(kIgnored), key.name) != std::end(kIgnored) || is_off(key.name, value))
      continue;
    const Field* field = key.name == "config" ? nullptr : find_field("model." + key.name);
    const bool valid = field && (family == 0 || (field->families & family));
    if (valid) {
      used.entries.emplace_back(key, value);
    } else if (field && value.kind == Node::Kind::null) {
      continue;  // another family's key that is off
    } else if (!((family & kDeepseek) && is_derived(config, key, value, issues))) {
      issues.add(key.place,
                 fmt::format("found the key `{}`, which fourmi does not know for this model_type", shown(key.name)),
                 "expected keys that are used, or known not to matter",
                 "If it does not change the architecture, take it out of a copy of the file");
    }
  }
  const Place place = model.place;
  merge(used, std::move(model), "model");
  model = std::move(used);
  model.place = place;
  return true;
}

}  // namespace fourmi::recipe
