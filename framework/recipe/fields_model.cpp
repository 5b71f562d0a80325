// The keys of model: Hugging Face's config.json keys, by their names, per family.
#include "framework/recipe/access.h"

namespace fourmi::recipe {
namespace {

constexpr double kMostSize = 16777216;  // sizes past this are slips of the pen; products of two still fit in 64 bits

using SizeMember = std::int64_t ModelSection::*;

Field size(const std::string& name, const std::string& meaning, SizeMember member, Families families, double least = 1,
           double most = kMostSize) {
  Field field{.path = "model." + name,
              .type = Type::whole,
              .meaning = meaning,
              .key_class = KeyClass::fixed,
              .families = families,
              .required = families,
              .least = least,
              .most = most};
  return bind(
      std::move(field), [member](Recipe & r, std::size_t) -> auto& { return r.model.*member; });
}

Field optional_size(const std::string& name, const std::string& meaning, SizeMember member, Families families,
                    double least, double most, std::string shown_default = {}) {
  Field field = size(name, meaning, member, families, least, most);
  field.required = 0;
  field.default_text = std::move(shown_default);
  return field;
}

/// A key of config.json of which only one value is built; it has no storage.
Field only(const std::string& name, Type type, const std::string& meaning, Families families, std::string value,
           bool nullable = false) {
  Field field{.path = "model." + name,
              .type = type,
              .meaning = meaning,
              .key_class = KeyClass::fixed,
              .families = families,
              .nullable = nullable,
              .choices = {value},
              .default_text = value};
  if (type == Type::empty_list) field.choices.clear();
  return field;
}

void add_common(std::vector<Field>& table) {
  const Families all = kAll;
  table.push_back({.path = "model", .type = Type::section, .key_class = KeyClass::fixed});
  table.back().meaning = "The architecture, in the words of Hugging Face's config.json of the same `model_type`.";
  table.push_back(bind({.path = "model.model_type",
                        .type = Type::text,
                        .meaning = "The family, by Hugging Face's name; it decides which keys are valid here.",
                        .key_class = KeyClass::fixed,
                        .required = all,
                        .choices = {"deepseek_v2", "deepseek_v3", "kimi_k2", "qwen3_moe"},
                        .foreign = {"architecture", "base_model", "model_name_or_path", "flavor"}},
                       FOURMI_AT(model.model_type)));
  table.push_back(bind({.path = "model.from",
                        .type = Type::text,
                        .meaning = "A run directory or checkpoint of fourmi whose weights a new run begins with; all else "
                                   "begins anew. The architecture must be the same.",
                        .key_class = KeyClass::fixed,
                        .default_text = "none",
                        .foreign = {"init_from", "pretrained_model", "pretrained_checkpoint", "finetune", "warm_start"}},
                       FOURMI_AT(model.from)));
  table.push_back(bind({.path = "model.config",
                        .type = Type::text,
                        .meaning = "A config.json to take these keys from, relative to the file that names it; keys "
                                   "given here override it.",
                        .key_class = KeyClass::fixed,
                        .default_text = "none"},
                       FOURMI_AT(model.config)));
  Field field = size("vocab_size", "Rows of the embedding and of the output head.", &ModelSection::vocab_size, all, 2);
  field.foreign = {"padded_vocab_size", "n_vocab"};
  table.push_back(std::move(field));
  field = size("hidden_size", "Width of the residual stream.", &ModelSection::hidden_size, all);
  field.foreign = {"d_model", "n_embd", "dim", "model_dim"};
  table.push_back(std::move(field));
  field = size("num_hidden_layers", "Blocks, without the multi-token prediction layer.",
               &ModelSection::num_hidden_layers, all, 1, 10000);
  field.foreign = {"num_layers", "n_layers", "n_layer"};
  table.push_back(std::move(field));
  field = size("intermediate_size", "Width of the feed-forward network of dense blocks.",
               &ModelSection::intermediate_size, all);
  field.foreign = {"ffn_hidden_size", "ffn_dim", "inter_dim"};
  table.push_back(std::move(field));
  field = size("moe_intermediate_size", "Width of each expert.", &ModelSection::moe_intermediate_size, all);
  field.foreign = {"moe_ffn_hidden_size", "moe_inter_dim"};
  table.push_back(std::move(field));
  field =
      size("num_experts_per_tok", "Routed experts that each token goes to.", &ModelSection::num_experts_per_tok, all);
  field.foreign = {"moe_router_topk", "top_k", "moe_top_k", "num_experts_per_token", "n_activated_experts"};
  table.push_back(std::move(field));
  table.push_back(bind({.path = "model.norm_topk_prob",
                        .type = Type::boolean,
                        .meaning = "Whether the weights of a token's experts are scaled to sum to 1.",
                        .key_class = KeyClass::fixed,
                        .required = all},
                       FOURMI_AT(model.norm_topk_prob)));
  field = size("num_attention_heads", "Query heads.", &ModelSection::num_attention_heads, all, 1, 65536);
  field.foreign = {"n_heads", "n_head", "num_heads"};
  table.push_back(std::move(field));
  field = size("max_position_embeddings", "The longest sequence that the rotary embedding is meant for.",
               &ModelSection::max_position_embeddings, all, 1, 1e9);
  field.unit = "tokens";
  field.foreign = {"n_positions", "max_position"};
  table.push_back(std::move(field));
  table.push_back(bind({.path = "model.rms_norm_eps",
                        .type = Type::number,
                        .meaning = "Added to the mean square in every RMSNorm.",
                        .key_class = KeyClass::fixed,
                        .least = 0,
                        .most = 1,
                        .above_least = true,
                        .foreign = {"norm_eps", "norm_epsilon", "layernorm_epsilon", "layer_norm_eps"}},
                       FOURMI_AT(model.rms_norm_eps)));
  table.push_back(bind({.path = "model.rope_theta",
                        .type = Type::number,
                        .meaning = "Base of the rotary angles.",
                        .key_class = KeyClass::fixed,
                        .least = 1,
                        .most = 1e12,
                        .above_least = true,
                        .foreign = {"rotary_base", "rope_base"}},
                       FOURMI_AT(model.rope_theta)));
  table.push_back(bind({.path = "model.initializer_range",
                        .type = Type::number,
                        .meaning = "Standard deviation of the initial matrices.",
                        .key_class = KeyClass::fixed,
                        .least = 0,
                        .most = 10,
                        .above_least = true,
                        .foreign = {"init_method_std", "init_std"}},
                       FOURMI_AT(model.initializer_range)));
  table.push_back(bind({.path = "model.tie_word_embeddings",
                        .type = Type::boolean,
                        .meaning = "Whether embedding and output head are one tensor.",
                        .key_class = KeyClass::fixed,
                        .foreign = {"untie_embeddings_and_output_weights", "tie_embeddings"}},
                       FOURMI_AT(model.tie_word_embeddings)));
  table.push_back(only("hidden_act", Type::text, "Activation of the gated feed-forward networks.", all, "silu"));
  table.push_back(only("attention_bias", Type::boolean, "Biases in the attention's projections.", all, "false"));
  table.push_back(only("attention_dropout", Type::number, "Dropout of attention weights.", all, "0"));
}

void add_yarn(std::vector<Field>& table) {
  Field section{.path = "model.rope_scaling",
                .type = Type::section,
                .meaning = "YaRN, which stretches the rotary embedding; applied whenever given.",
                .key_class = KeyClass::fixed,
                .families = kDeepseek,
                .nullable = true,
                .default_text = "null: none"};
  section.get = [](const Recipe& r, std::size_t) -> Value { return r.model.rope_scaling ? Value(true) : Value{}; };
  section.set = [](Recipe& r, std::size_t, const Value& value) {
    r.model.rope_scaling.reset();
    if (!std::holds_alternative<std::monostate>(value)) r.model.rope_scaling.emplace();
  };
  table.push_back(std::move(section));
  Field type{.path = "model.rope_scaling.type",
             .type = Type::text,
             .meaning = "The only kind that is built.",
             .key_class = KeyClass::fixed,
             .families = kDeepseek,
             .required = kDeepseek,
             .choices = {"yarn"},
             .foreign = {"rope_type"}};
  type.get = [](const Recipe&, std::size_t) -> Value { return std::string("yarn"); };
  type.set = [](Recipe&, std::size_t, const Value&) {};
  table.push_back(std::move(type));
  const auto number = [&](const std::string& name, const std::string& meaning, double RopeScaling::*member,
                          double least, Families required) {
    table.push_back(bind(
        {.path = "model.rope_scaling." + name,
         .type = Type::number,
         .meaning = meaning,
         .key_class = KeyClass::fixed,
         .families = kDeepseek,
         .required = required,
         .least = least,
         .most = 1e6},
        [member](Recipe & r, std::size_t) -> auto& { return (*r.model.rope_scaling).*member; }));
  };
  number("factor", "How much longer sequences may be.", &RopeScaling::factor, 1, kDeepseek);
  table.push_back(bind({.path = "model.rope_scaling.original_max_position_embeddings",
                        .type = Type::whole,
                        .meaning = "The longest sequence before stretching.",
                        .unit = "tokens",
                        .key_class = KeyClass::fixed,
                        .families = kDeepseek,
                        .required = kDeepseek,
                        .least = 1,
                        .most = 1e9},
                       FOURMI_AT(model.rope_scaling->original_max_position_embeddings)));
  number("beta_fast", "Rotations above which a frequency stays.", &RopeScaling::beta_fast, 0, 0);
  number("beta_slow", "Rotations below which a frequency is divided by the factor.", &RopeScaling::beta_slow, 0, 0);
  number("mscale", "Scale of the rotary embedding.", &RopeScaling::mscale, 0, 0);
  number("mscale_all_dim", "Scale of the attention's softmax; 0: none.", &RopeScaling::mscale_all_dim, 0, 0);
}

void add_deepseek(std::vector<Field>& table) {
  const Families deepseek = kDeepseek;
  table.push_back(optional_size("num_nextn_predict_layers", "Multi-token prediction layers.",
                                &ModelSection::num_nextn_predict_layers, deepseek, 0, 1));
  table.back().foreign = {"mtp_num_layers", "num_nextn_predict", "mtp_depth"};
  table.push_back(size("first_k_dense_replace", "So many first blocks are dense.", &ModelSection::first_k_dense_replace,
                       deepseek, 0, 10000));
  table.back().foreign = {"n_dense_layers", "moe_first_k_dense_replace"};
  table.push_back(optional_size("moe_layer_freq", "Every so many blocks have experts.", &ModelSection::moe_layer_freq,
                                deepseek, 1, 1));
  table.back().choices = {"1"};
  table.push_back(size("n_routed_experts", "Experts of a block to choose from.", &ModelSection::n_routed_experts,
                       deepseek, 1, 65536));
  table.back().foreign = {"num_experts", "num_moe_experts", "num_local_experts", "moe_num_experts"};
  table.push_back(optional_size("n_shared_experts", "Experts that every token goes to.",
                                &ModelSection::n_shared_experts, deepseek, 0, 65536));
  table.back().foreign = {"moe_shared_expert_intermediate_size", "num_shared_experts"};
  table.push_back(optional_size("n_group", "Groups that the experts are divided into.", &ModelSection::n_group,
                                deepseek, 1, 65536));
  table.back().foreign = {"moe_router_num_groups", "num_expert_group", "n_expert_groups"};
  table.push_back(
      optional_size("topk_group", "Groups that a token may go to.", &ModelSection::topk_group, deepseek, 1, 65536));
  table.back().foreign = {"moe_router_group_topk", "n_limited_groups"};
  table.push_back(bind({.path = "model.scoring_func",
                        .type = Type::text,
                        .meaning = "How router logits become scores.",
                        .key_class = KeyClass::fixed,
                        .families = deepseek,
                        .choices = {"sigmoid", "softmax"},
                        .default_text = "softmax for deepseek_v2, else sigmoid",
                        .foreign = {"moe_router_score_function", "score_func"}},
                       FOURMI_AT(model.scoring_func)));
  table.push_back(bind({.path = "model.topk_method",
                        .type = Type::text,
                        .meaning = "How experts are chosen: greedy by score; group_limited_greedy within the groups "
                                   "of the best scores; noaux_tc by score plus correction bias, within the groups of "
                                   "the best two.",
                        .key_class = KeyClass::fixed,
                        .families = deepseek,
                        .choices = {"greedy", "group_limited_greedy", "noaux_tc"},
                        .default_text = "greedy for deepseek_v2, else noaux_tc"},
                       FOURMI_AT(model.topk_method)));
  table.push_back(bind({.path = "model.routed_scaling_factor",
                        .type = Type::number,
                        .meaning = "Factor on the weights of the routed experts.",
                        .key_class = KeyClass::fixed,
                        .families = deepseek,
                        .least = 0,
                        .most = 1e6,
                        .above_least = true,
                        .foreign = {"moe_router_topk_scaling_factor", "route_scale"}},
                       FOURMI_AT(model.routed_scaling_factor)));
  Field rank = optional_size("q_lora_rank", "Width of the queries' latent; null or 0: none.",
                             &ModelSection::q_lora_rank, deepseek, 0, kMostSize, "null: none");
  rank.nullable = true;
  table.push_back(std::move(rank));
  table.push_back(
      size("kv_lora_rank", "Width of the latent of keys and values.", &ModelSection::kv_lora_rank, deepseek));
  table.push_back(size("qk_nope_head_dim", "Channels of a query or key head without rotary embedding.",
                       &ModelSection::qk_nope_head_dim, deepseek, 1, 65536));
  table.back().foreign = {"qk_head_dim"};
  table.push_back(size("qk_rope_head_dim", "Channels of a query or key head with rotary embedding; even.",
                       &ModelSection::qk_rope_head_dim, deepseek, 2, 65536));
  table.back().foreign = {"qk_pos_emb_head_dim"};
  table.push_back(size("v_head_dim", "Channels of a value head.", &ModelSection::v_head_dim, deepseek, 1, 65536));
  add_yarn(table);
  table.push_back(only("rope_interleave", Type::boolean, "Rotary pairs are neighbours.", deepseek, "true"));
}

void add_qwen3(std::vector<Field>& table) {
  table.push_back(
      size("num_experts", "Experts of a block to choose from.", &ModelSection::n_routed_experts, kQwen3, 1, 65536));
  table.back().foreign = {"n_routed_experts", "num_moe_experts", "num_local_experts", "moe_num_experts"};
  table.push_back(optional_size("num_key_value_heads",
                                "Key and value heads; divides the query heads. With multi-head "
                                "latent attention: the query heads.",
                                &ModelSection::num_key_value_heads, kAll, 1, 65536, "num_attention_heads"));
  table.back().required = kQwen3;
  table.back().foreign = {"num_query_groups", "n_kv_heads", "num_kv_heads"};
  table.push_back(size("head_dim", "Channels of a head; even.", &ModelSection::head_dim, kQwen3, 2, 65536));
  table.back().foreign = {"kv_channels"};
  table.push_back(only("decoder_sparse_step", Type::whole, "Every so many blocks have experts.", kQwen3, "1"));
  table.push_back(only("mlp_only_layers", Type::empty_list, "Blocks without experts.", kQwen3, "[]"));
  table.push_back(only("use_sliding_window", Type::boolean, "Attention to a window of tokens.", kQwen3, "false"));
}

}  // namespace

void add_model_fields(std::vector<Field>& table) {
  add_common(table);
  add_deepseek(table);
  add_qwen3(table);
}

}  // namespace fourmi::recipe
