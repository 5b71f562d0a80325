// The keys of model that say which blocks have experts, how many, and how a token finds its own.
#include "framework/recipe/model_rows.h"

namespace fourmi::recipe {
namespace {

void add_counts(std::vector<Field>& table) {
  table.push_back(optional_size_row("num_nextn_predict_layers", "Multi-token prediction layers.",
                                    &ModelSection::num_nextn_predict_layers, kDeepseek, 0, 1));
  table.back().foreign = {"mtp_num_layers", "num_nextn_predict", "mtp_depth"};
  table.push_back(
      size_row("first_k_dense_replace",
               "So many first blocks are dense; num_hidden_layers: all of them, and the multi-token prediction's.",
               &ModelSection::first_k_dense_replace, kDeepseek, 0, 10000));
  table.back().foreign = {"n_dense_layers", "moe_first_k_dense_replace"};
  table.push_back(optional_size_row("moe_layer_freq",
                                    "Of the other blocks those have experts whose number (from 0) this divides.",
                                    &ModelSection::moe_layer_freq, kDeepseek, 1, 10000));
  table.push_back(optional_size_row("decoder_sparse_step", "Blocks have experts whose number (from 1) this divides.",
                                    &ModelSection::decoder_sparse_step, kQwen3Moe, 1, 10000));
  table.push_back(bind({.path = "model.mlp_only_layers",
                        .type = Type::wholes,
                        .meaning = "Blocks without experts, by their numbers (from 0).",
                        .key_class = KeyClass::fixed,
                        .families = kQwen3Moe,
                        .nullable = true},
                       FOURMI_AT(model.mlp_only_layers)));
  table.push_back(size_row("moe_intermediate_size", "Width of each expert.", &ModelSection::moe_intermediate_size,
                           kDeepseek | kQwen3Moe));
  table.back().foreign = {"moe_ffn_hidden_size", "moe_inter_dim"};
  const std::string meaning = "Experts of a block to choose from.";
  table.push_back(size_row("n_routed_experts", meaning, &ModelSection::n_routed_experts, kDeepseek, 1, 65536));
  table.back().foreign = {"num_experts", "num_moe_experts", "num_local_experts", "moe_num_experts"};
  table.push_back(size_row("num_experts", meaning, &ModelSection::n_routed_experts, kQwen3Moe, 1, 65536));
  table.back().foreign = {"n_routed_experts", "num_moe_experts", "num_local_experts", "moe_num_experts"};
  table.push_back(size_row("num_local_experts", meaning, &ModelSection::n_routed_experts, kMixtral, 1, 65536));
  table.back().foreign = {"n_routed_experts", "num_moe_experts", "num_experts", "moe_num_experts"};
  table.push_back(optional_size_row("n_shared_experts", "Experts that every token goes to.",
                                    &ModelSection::n_shared_experts, kDeepseek, 0, 65536));
  table.back().foreign = {"moe_shared_expert_intermediate_size", "num_shared_experts"};
  table.push_back(size_row("num_experts_per_tok", "Routed experts that each token goes to.",
                           &ModelSection::num_experts_per_tok, kExperts));
  table.back().foreign = {"moe_router_topk", "top_k", "moe_top_k", "num_experts_per_token", "n_activated_experts"};
}

void add_routing(std::vector<Field>& table) {
  table.push_back(optional_size_row("n_group", "Groups that the experts are divided into.", &ModelSection::n_group,
                                    kDeepseek, 1, 65536));
  table.back().foreign = {"moe_router_num_groups", "num_expert_group", "n_expert_groups"};
  table.push_back(optional_size_row("topk_group", "Groups that a token may go to.", &ModelSection::topk_group,
                                    kDeepseek, 1, 65536));
  table.back().foreign = {"moe_router_group_topk", "n_limited_groups"};
  table.push_back(bind({.path = "model.scoring_func",
                        .type = Type::text,
                        .meaning = "How router logits become scores.",
                        .key_class = KeyClass::fixed,
                        .families = kDeepseek,
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
                        .families = kDeepseek,
                        .choices = {"greedy", "group_limited_greedy", "noaux_tc"},
                        .default_text = "greedy for deepseek_v2, else noaux_tc"},
                       FOURMI_AT(model.topk_method)));
  table.push_back(
      bind({.path = "model.norm_topk_prob",
            .type = Type::boolean,
            .meaning = "Whether the weights of a token's experts are scaled to sum to 1 (mixtral always does).",
            .key_class = KeyClass::fixed,
            .families = kDeepseek | kQwen3Moe,
            .required = kDeepseek | kQwen3Moe},
           FOURMI_AT(model.norm_topk_prob)));
  table.push_back(bind({.path = "model.routed_scaling_factor",
                        .type = Type::number,
                        .meaning = "Factor on the weights of the routed experts.",
                        .key_class = KeyClass::fixed,
                        .families = kDeepseek,
                        .least = 0,
                        .most = 1e6,
                        .above_least = true,
                        .foreign = {"moe_router_topk_scaling_factor", "route_scale"}},
                       FOURMI_AT(model.routed_scaling_factor)));
  table.push_back(only_row("router_jitter_noise", Type::number, "Noise on the router's input.", kMixtral, "0"));
}

}  // namespace

void add_expert_rows(std::vector<Field>& table) {
  add_counts(table);
  add_routing(table);
}

}  // namespace fourmi::recipe
